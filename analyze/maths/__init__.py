"""Statistics and reductions that know neither codes nor reports."""
