"""Pages of the docs that are made from the code; see `python3 run.py pages`."""
