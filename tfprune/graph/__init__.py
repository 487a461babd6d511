"""A Keras model as a flat list of calls: read, traced, run again."""
