"""The demo: a small trained model, a workflow, and what run.py needs to show them on a real server."""
