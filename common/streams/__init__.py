"""What a stream is: its specification, and what is recorded of it."""
