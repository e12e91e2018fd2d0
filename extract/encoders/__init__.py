"""Frozen encoders of timm, open_clip and transformers, behind one interface."""
