"""`sparc-analyze search`: rows that a text, an image or a row finds."""
