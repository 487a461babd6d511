"""The kinds of target: one function for each, which returns the cut."""

from tfprune.structure.targets import blocks, closed, cost, plan

__all__ = ["blocks", "closed", "cost", "plan"]
