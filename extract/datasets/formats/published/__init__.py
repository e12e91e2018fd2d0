"""Readers of published datasets in the layouts of their authors, one module a layout."""
