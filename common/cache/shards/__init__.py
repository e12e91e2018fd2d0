"""Several processes that write one cache, each a shard: who makes what, and who is at work."""
