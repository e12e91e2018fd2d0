"""Aligning: the streams' encoders refitted in closed form, so that independent codes agree."""
