"""How the rows of a batch select latents: by which logits, and which of the candidates are kept."""
