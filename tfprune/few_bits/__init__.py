"""Storing weights in few bits: with channels of equal range, and chosen on samples."""
