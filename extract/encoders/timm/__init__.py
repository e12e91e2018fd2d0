"""The library timm: image encoders."""
