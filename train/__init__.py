"""Stage 2: from an activation cache to one dictionary shared by all streams.

Knows the cache, never encoders or datasets: it does not import `sparc.extract`.
"""
