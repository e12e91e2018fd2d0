"""Dictionaries of one stream, in terms that SPARC shares with other programs and their files."""
