"""The task that labels and outputs show, where none is given."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfprune.errors import DataError
from tfprune.task.task import Task


def guess_task(labels: Any, outputs: Any = None) -> Task:
    """Return the task that labels show, and the shapes of outputs if they are known.

    Args:
        labels: An array, or a dict of arrays for several outputs.
        outputs: An array of outputs, or a dict of them; None if they are not known yet.

    Raises:
        DataError: The labels do not show one.

    Example:
        >>> guess_task(np.array([0, 2, 1])).name, guess_task(np.array([0.5, 1.25])).name
        ('classification', 'regression')
    """
    if isinstance(labels, Mapping):
        known = outputs if isinstance(outputs, Mapping) else {}
        return Task(outputs={name: guess_task(y, known.get(name)) for name, y in labels.items()})
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biuf" or not labels.ndim:
        raise DataError(f"labels: expected numbers. Received {labels.dtype}")
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    rank = labels.ndim
    soft = rank == 2 and bool((labels >= 0).all()) and np.allclose(labels.sum(1), 1)
    if not soft and _are_fractions(labels):
        return Task("regression")
    if rank == 1 or soft:
        return Task("classification")
    binary = bool(np.isin(labels, (0, 1)).all())
    by_class = outputs is not None and np.ndim(outputs) == rank + 1
    if binary and rank == 2 and not by_class:
        return Task("multi_label")
    return Task({2: "tagging", 3: "segmentation"}.get(rank, "classification"))


def _are_fractions(labels: np.ndarray) -> bool:
    """Return whether labels are measurements: a single wrong class number is not enough."""
    return labels.dtype.kind == "f" and bool((labels != np.rint(labels)).mean() > 0.5)
