"""A study's report in words, pictures and pages."""
