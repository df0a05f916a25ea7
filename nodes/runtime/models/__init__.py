"""Which models there are, and how one that is in no table is found out."""
