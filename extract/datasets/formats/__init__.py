"""The formats of datasets: `registry` lists them, `reader` says what one is made of."""
