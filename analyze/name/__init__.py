"""`sparc-analyze name`: latents named by a list of words."""
