"""Renderers of the summary's page, one file per kind of file; `registry` lists them."""
