"""Saving: a model on its own, with some of its streams or other names for them."""
