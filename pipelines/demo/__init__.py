"""The embedded demo: scenes of emoji drawings, encoders from the package index, three commands."""
