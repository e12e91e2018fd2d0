"""From a report, its cache and its run to the content of a site's data files."""
