"""Joining: a further stream learns the latents of a trained dictionary, whose streams stay."""
