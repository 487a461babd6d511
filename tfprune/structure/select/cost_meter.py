"""Counting what a model costs after some of its ids are removed, without building it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np

from tfprune.errors import ModelError
from tfprune.graph.rebuild import operations
from tfprune.structure.groups.units import Units
from tfprune.structure.ids.flow import product
from tfprune.structure.ids.ids import Ids


@dataclass(frozen=True, eq=False)
class _Products:
    """A sum of products: each a factor times the kept lengths of some vectors."""

    factors: np.ndarray
    terms: list[list[int]]

    def total(self, lengths: np.ndarray) -> float:
        return sum(
            float(factor * math.prod(lengths[index] for index in term))
            for factor, term in zip(self.factors, self.terms, strict=True)
        )


class Meter:
    """Counts parameters, multiplications and channels of a model for the kept ids."""

    def __init__(self, found: Units) -> None:
        self.found = found
        self._vectors: list[Ids] = []
        self._index: dict[int, int] = {}
        self._params = self._weigh(lambda op: True)
        self._file = self._weigh(lambda op: not isinstance(op, keras.layers.BatchNormalization))
        self._macs = self._multiply()
        self._flat = np.concatenate([np.zeros(0, int), *self._vectors])
        sizes = [len(vector) for vector in self._vectors]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])[:-1].astype(int)

    def _vector(self, ids: Ids) -> int:
        if id(ids) not in self._index:
            self._index[id(ids)] = len(self._vectors)
            self._vectors.append(ids)
        return self._index[id(ids)]

    def _weigh(self, counts: Callable[[Any], bool]) -> _Products:
        factors, terms = [], []
        for op in operations(self.found.graph):
            if not isinstance(op, keras.Layer) or not counts(op):
                continue
            for weight in op.weights:
                factor, vectors = product(self.found.flow.extents(weight))
                factors.append(factor)
                terms.append([self._vector(ids) for ids in vectors])
        return _Products(np.array(factors), terms)

    def _multiply(self) -> _Products:
        costs = self.found.flow.costs
        return _Products(
            np.array([cost.factor for cost in costs]),
            [[self._vector(ids) for ids in cost.vectors] for cost in costs],
        )

    def _lengths(self, kept_mask: np.ndarray) -> np.ndarray:
        if not len(self._flat):
            return np.zeros(0)
        return np.add.reduceat(kept_mask[self._flat].astype(np.int64), self._starts)

    @cached_property
    def everything(self) -> np.ndarray:
        """A mask that keeps all ids."""
        return np.ones(self.found.flow.size, bool)

    def params(self, kept_mask: np.ndarray) -> float:
        """Return the number of weights, as `model.count_params` counts them."""
        return round(self._params.total(self._lengths(kept_mask)))

    def macs(self, kept_mask: np.ndarray) -> float:
        """Return the multiplications of one sample; NaN if the model leaves sizes open."""
        return self._macs.total(self._lengths(kept_mask))

    def file_bytes(self, kept_mask: np.ndarray) -> float:
        """Return the bytes of the weights in a float32 file, with BatchNormalization folded."""
        return 4 * self._file.total(self._lengths(kept_mask))

    def channels(self, kept_mask: np.ndarray) -> float:
        """Return the number of units in all groups."""
        return float(sum(int(kept_mask[group.units].sum()) for group in self.found.groups))

    def measure(self, kind: str, kept_mask: np.ndarray) -> float:
        """Return one of the costs, by its name in a target.

        Raises:
            ModelError: Multiplications cannot be counted.
        """
        if kind == "macs":
            macs = self.macs(kept_mask)
            if math.isnan(macs):
                raise ModelError(
                    f"model {self.found.model.name!r} leaves sizes of its input open, so its "
                    "multiplications cannot be counted: pass input_shape=, without the batch"
                )
            return macs
        return {"params": self.params, "channels": self.channels, "tflite_bytes": self.file_bytes}[
            kind
        ](kept_mask)


def nearest_multiple(wanted: float, step: int, most: int) -> int:
    """Return the count to keep: the multiple of `step` nearest to `wanted`, or `most`.

    The count is never zero: at least one step, or `most` if that is less.

    Example:
        >>> [nearest_multiple(wanted, 8, 20) for wanted in (20, 19, 17, 13, 3, 0)]
        [20, 20, 16, 16, 8, 8]
        >>> nearest_multiple(1, 8, 4), nearest_multiple(0.5 * 11, 1, 11), nearest_multiple(0, 1, 3)
        (4, 6, 1)
    """
    if wanted >= most or most <= step:
        return most
    multiple = max(round(wanted / step), 1) * step
    if multiple >= most or most - wanted < abs(multiple - wanted):
        return most
    return multiple
