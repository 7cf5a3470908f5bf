"""ADT: what a hospital's registration tells, and what follows by itself: transfers opened, accepted, undone."""
