"""Single chunks: their objects, and what is known of them in small files until it is gathered."""
