"""Scores of maps against the masks of a cache, beside those of baselines."""
