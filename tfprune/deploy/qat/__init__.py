"""Quantization-aware training: ranges and rounding while a Keras 3 model trains."""
