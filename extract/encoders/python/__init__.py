"""Models of a user's own: any PyTorch module that a Python function gives."""
