"""The truth about a file: size, accuracy, agreement and latency, beside the dense baseline."""
