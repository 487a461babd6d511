"""Files: atomic writes, reads with limits, cleanup of temporary files."""
