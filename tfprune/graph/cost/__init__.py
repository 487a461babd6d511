"""The multiply-accumulates of a model."""
