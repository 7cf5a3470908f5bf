"""From facts to views: the studies as they are found and shown."""
