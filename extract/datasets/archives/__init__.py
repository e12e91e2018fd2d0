"""Zip archives of a dataset, read in place as if they were unpacked where they lie."""
