"""A step whose latents are shared by processes: each owns some of them, of all streams."""
