"""The archive's Lambda functions, and what calls them."""
