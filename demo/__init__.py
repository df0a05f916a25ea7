"""The demo: small trained models, a workflow, and what shows them on a real server."""
