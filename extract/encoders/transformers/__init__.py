"""The library Hugging Face transformers: text encoders."""
