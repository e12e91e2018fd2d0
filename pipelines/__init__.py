"""Whole runs made of the three stages: the embedded demo, COCO, Open Images. Nothing imports it."""
