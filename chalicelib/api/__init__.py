"""Request → service → response, and nothing else."""
