"""Extraction on a Dask cluster: workers encode and write chunks, this process keeps the cache."""
