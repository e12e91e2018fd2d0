"""Exporting: a model's streams as dictionaries of other programs."""
