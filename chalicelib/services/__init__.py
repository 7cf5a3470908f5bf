"""What happens, in order: a module for each use case, in rooms."""
