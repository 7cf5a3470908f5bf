"""What the operator starts: the archive compared with itself, and mended. Counts and UIDs come out, no image and no patient."""
