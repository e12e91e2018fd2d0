"""A report as a notebook opens it: it answers questions, and what it answers shows itself."""
