"""What the data files of a site hold, and how they are written; `SITE.md` describes the format."""
