"""`sparc-analyze search`: rows that a text, an image, a row or a latent finds."""
