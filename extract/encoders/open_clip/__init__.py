"""The library open_clip: image and text towers of one model."""
