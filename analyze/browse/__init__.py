"""The concept browser: a report as a folder of pages that opens by double click."""
