"""C-FIND, C-GET and C-MOVE, answered from the archive: what this hospital may see, under its own numbers (PS3.4 C)."""
