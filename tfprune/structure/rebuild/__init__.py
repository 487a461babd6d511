"""The smaller model: weights sliced, layers rebuilt, kernels repaired."""
