"""The audit trail: recorded with what it records, read by those whom it concerns, anchored where nobody can change it."""
