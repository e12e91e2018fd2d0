"""The sparse mathematics in Triton, for GPUs, a module for each kind of operation."""
