"""Agreement of the classes of a latent's rows between streams, with its null and its intervals."""
