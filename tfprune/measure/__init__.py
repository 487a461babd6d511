"""Measurements of a file: size, accuracy, agreement and latency, next to the baseline."""
