"""Sparse codes of a run on a cache: computed once, stored, read part by part."""
