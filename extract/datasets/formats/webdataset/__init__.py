"""Tar shards: `archive` finds the members, `samples` puts them together, `reader` makes rows."""
