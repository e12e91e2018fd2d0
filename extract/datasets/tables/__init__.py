"""Tables of names, captions and labels, read by their content: one bad record costs one record."""
