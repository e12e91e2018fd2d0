"""Files of dictionaries, one file per program that writes them; `registry` lists them."""
