"""Lossless compression on the way out, checked, in processes of its own."""
