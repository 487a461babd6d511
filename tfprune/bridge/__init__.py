"""Conversion of models between Keras 2 (`tf_keras`) and Keras 3."""
