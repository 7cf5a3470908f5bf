"""What the forwarder has taken responsibility for: files, their journal, the watched folder."""
