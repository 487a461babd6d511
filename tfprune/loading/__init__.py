"""Model files of both generations of Keras, read without running code that is in them."""
