"""The sparse mathematics in Triton, for GPUs: one module per kind of operation."""
