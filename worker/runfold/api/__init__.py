"""The public Api: read runs, groups and series from any machine."""
