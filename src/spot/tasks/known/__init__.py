"""The data sets that are known by name: tables of what a row is, and how it becomes text."""
