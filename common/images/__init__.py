"""Images as files and as pixels: where they lie, and how their bytes are decoded."""
