"""Tasks: what one is, the known data sets, and users' own files."""
