"""Hostile input for every reader of strangers' bytes: `python -m tests.fuzz`."""
