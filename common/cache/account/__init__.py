"""The account of a dataset: what a reader used of it, and what lies there that it did not use."""
