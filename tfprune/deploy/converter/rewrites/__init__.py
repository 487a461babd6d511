"""Changes to the graph of a SavedModel before it is converted."""
