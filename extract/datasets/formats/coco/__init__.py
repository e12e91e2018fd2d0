"""The layout of COCO: which annotation files there are, and what they say of images."""
