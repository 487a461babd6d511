"""Model files of both generations of Keras, read without running code from them."""
