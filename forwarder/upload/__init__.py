"""The way out: what waits, in which order, how it is sent, and what became of it."""
