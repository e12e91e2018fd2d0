"""Folders, files and locks, here or behind a URL. No format of ours is known here."""
