"""Models made from trained ones: what the commands that change a finished model have in common."""
