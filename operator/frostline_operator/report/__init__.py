"""A study's report: one page, or its data."""
