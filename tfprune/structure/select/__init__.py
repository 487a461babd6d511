"""Which units to remove: importance, ranking, and the cost of the rest."""
