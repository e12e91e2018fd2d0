"""Features that were made elsewhere, in files of any kind, become streams of a cache."""
