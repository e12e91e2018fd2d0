"""Arrays of features, as all formats hand them out, and what several formats need to make them."""
