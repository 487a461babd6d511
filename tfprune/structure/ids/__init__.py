"""Channel ids that flow through the graph, and the registry of layer rules."""
