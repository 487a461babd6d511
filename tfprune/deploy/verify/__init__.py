"""Verification of a file before it is returned."""
