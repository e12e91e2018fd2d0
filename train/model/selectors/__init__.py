"""Selectors: which latents a row uses, one file a selector; `registry` lists them."""
