"""What is measured on codes: one module a metric."""
