"""The files that hold features made elsewhere, one module a format."""
