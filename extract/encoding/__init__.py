"""Encoding the chunks of a cache: images are loaded, and encoders run on one or more devices."""
