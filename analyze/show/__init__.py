"""`sparc-analyze show`: one latent on one screen."""
