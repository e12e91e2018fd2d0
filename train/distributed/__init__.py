"""Several processes that train one model: what they exchange and agree on."""
