"""A user's data as batches, random inputs, and the comparison of outputs."""
