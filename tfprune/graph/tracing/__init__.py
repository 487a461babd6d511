"""Tracing the calls of layers: symbolic calls, open sizes, and weights as tensors."""
