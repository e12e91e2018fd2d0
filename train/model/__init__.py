"""The model: selection, codes and decoding, how it starts and how it is stored."""
