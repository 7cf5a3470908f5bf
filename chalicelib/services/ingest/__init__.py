"""What comes in: uploads, indexing, corrections, reports, withdrawals; and what became of each."""
