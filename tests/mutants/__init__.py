"""Each promise broken on purpose, and the tests that notice: `python -m tests.mutants`."""
