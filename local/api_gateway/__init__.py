"""API Gateway (REST, Lambda proxy) in front of the archive's function."""
