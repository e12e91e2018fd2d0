"""Readers of published datasets, one module a layout; `documents`, `lists`, `safe_xml` help."""
