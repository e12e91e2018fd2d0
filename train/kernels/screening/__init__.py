"""TopK whose products are screened in bfloat16 and decided in float32, compiled by Numba."""
