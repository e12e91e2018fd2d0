"""`sparc-analyze stability`: latents of one run that another run has too."""
