"""What can be asked for, one function for each kind: it says what goes from a model."""

from tfprune.structure.targets import blocks, closed, cost, plan

__all__ = ["blocks", "closed", "cost", "plan"]
