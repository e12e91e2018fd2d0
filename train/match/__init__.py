"""Matching: latents of streams that were trained apart, numbered so that they correspond."""
