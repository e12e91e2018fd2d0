"""One training step: selection, losses, gradients and the update."""
