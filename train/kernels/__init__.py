"""The sparse mathematics of a training step: one interface, several implementations."""
