"""The plumbing of the command lines: options from settings, errors in one line, completion."""
