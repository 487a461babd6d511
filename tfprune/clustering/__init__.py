"""Clustering: weights of a kernel that share a few values while the model trains."""
