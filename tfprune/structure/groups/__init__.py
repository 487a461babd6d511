"""Units that can be removed, in groups with all that holds them together."""
