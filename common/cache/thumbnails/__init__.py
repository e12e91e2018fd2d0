"""Thumbnails of the rows' images: a table for each chunk. `CACHE.md`, section 3.1, is normative."""
