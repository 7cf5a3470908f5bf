"""What Lambda runs: the archive."""
