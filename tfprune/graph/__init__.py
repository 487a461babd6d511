"""A Keras model as a flat list of calls."""
