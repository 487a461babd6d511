"""Units that can be removed, in groups."""
