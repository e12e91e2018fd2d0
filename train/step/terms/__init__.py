"""The terms of the loss, one file a term; `registry` lists them."""
