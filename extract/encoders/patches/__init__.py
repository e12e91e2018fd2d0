"""Image encoders of any library whose rows are places of an image: `?tokens=patch&places=7x7`."""
