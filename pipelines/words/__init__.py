"""The word pipelines over texts: count, letters."""
