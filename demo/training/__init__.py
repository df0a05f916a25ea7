"""How the demo's model of scenes was made; `python3 run.py train` does it again."""
