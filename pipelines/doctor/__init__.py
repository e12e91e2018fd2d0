"""What this machine and installation have for SPARC, and what is missing."""
