"""How large thumbnails are. Light: the command line reads it for `--help`."""

SIDE = 96
"""Longest side in pixels, where nobody says another."""

SMALLEST_SIDE = 16
LARGEST_SIDE = 512
