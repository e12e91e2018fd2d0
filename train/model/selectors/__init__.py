"""Selectors: which latents a row uses, one file per selector; `registry` lists them."""
