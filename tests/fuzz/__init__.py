"""Hostile input by the million: `python -m tests.fuzz` for the pure readers, `python -m tests.fuzz.doors` for every door."""
