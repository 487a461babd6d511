"""Reading and running files, without TensorFlow."""
