"""Batches of arrays without an end, for epochs of a given number of steps."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfprune.keras_support.trainer_internals import batches_of_arrays


def repeated_batches(
    x: Any, y: Any, size: int, class_weight: Mapping[int, float] | None, done: int
) -> tf.data.Dataset:
    """Return batches of arrays again and again, without those that were trained on before."""
    return batches_of_arrays(x, y, size, class_weight).repeat().skip(done)
