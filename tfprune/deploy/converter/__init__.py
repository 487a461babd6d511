"""From a Keras model to the bytes of a `.tflite` file: export, rewrites, conversion."""
