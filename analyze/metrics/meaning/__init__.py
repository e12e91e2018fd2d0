"""What a single latent stands for: how alike its images are, their words and their classes."""
