"""Pruning without training: from a few hundred samples, layer after layer."""
