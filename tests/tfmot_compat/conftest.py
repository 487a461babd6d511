"""The small model and the data of the tests of pruning."""

from tests.sparsity.conftest import data, model

__all__ = ["data", "model"]
