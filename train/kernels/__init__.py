"""The sparse mathematics of a training step, behind one interface with several implementations."""
