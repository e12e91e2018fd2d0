"""Where in an image, and in which words of a caption, a latent or a text is.

The command is `sparc-analyze localize`; formulas and files are described in `REPORT.md`.
"""
