"""What is recorded of a stream, and when two streams come from the same encoder."""
