"""Measures of what a single latent stands for."""
