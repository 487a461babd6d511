"""Whole residual branches: which to remove, and removing them."""
