"""The API of tensorflow-model-optimization, for both generations of Keras."""
