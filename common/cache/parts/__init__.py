"""What is known of single chunks, in a small file for each of them until it is gathered."""
