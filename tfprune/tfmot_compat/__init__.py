"""tensorflow-model-optimization's names, for both generations of Keras."""
