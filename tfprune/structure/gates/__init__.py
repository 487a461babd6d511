"""Gates on units, and removing what training has closed."""
