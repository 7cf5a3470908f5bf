"""The rules, as pure functions and frozen dataclasses; the standard library only."""
