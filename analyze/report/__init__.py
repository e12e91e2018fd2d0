"""The report folder: tables, figures and their summary. See `REPORT.md`."""
