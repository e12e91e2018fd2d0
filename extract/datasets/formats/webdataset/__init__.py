"""Tar shards: `archive` finds the members, `samples` puts them together, `contents` reads them."""
