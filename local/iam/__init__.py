"""Who asks, and what they may: signatures, credentials, policies."""
