"""Building the smaller model: slicing weights, rebuilding layers, repairing kernels."""
