"""Pruning with masks that hold while a model trains: score, pattern, allocation, schedule."""
