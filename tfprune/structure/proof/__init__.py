"""The equivalence check of a shrunk model against the original."""
