"""What the page shows: reading sessions, their timeline and images."""
