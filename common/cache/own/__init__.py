"""Caches of features that somebody already has: rows in the forms people have them, batches."""
