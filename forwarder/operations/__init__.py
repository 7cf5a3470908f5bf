"""What an administrator sees and does: the page, the status, the check, the spool."""
