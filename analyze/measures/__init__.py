"""What a report holds of each metric: its tables, its figures and its section of the page."""
