"""`sparc-analyze concepts`: which latents streams share, and which only one has or lacks."""
