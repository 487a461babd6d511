"""Removing whole residual branches."""
