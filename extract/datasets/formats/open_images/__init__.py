"""Open Images: `narratives` reads the captions, `reader` finds the files and makes rows."""
