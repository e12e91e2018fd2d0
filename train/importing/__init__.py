"""Importing: a dictionary of another program as a saved model of one stream."""
