"""Data sources: what is on disk becomes one array of rows, split by seed."""
