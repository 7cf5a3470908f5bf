"""Written from the contract and docs/ alone: what was acknowledged to whom, held against what the archive answers now."""
