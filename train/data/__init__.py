"""Rows of a cache on their way to the training loop."""
