"""Files behind URLs: requests that are tried again, conditional writes, locks with a lease."""
