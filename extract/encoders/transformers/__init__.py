"""The library Hugging Face transformers: text encoders, and image encoders with `#image`."""
