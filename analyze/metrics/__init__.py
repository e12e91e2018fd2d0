"""The computing of every metric: from codes to the rows of its tables; see `REPORT.md`."""
