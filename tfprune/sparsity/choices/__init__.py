"""Which weights to prune: scores, patterns, allocations, schedules. NumPy only."""
