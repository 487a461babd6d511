"""Samples for calibration and comparison, from the user's data or random."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfprune.data.batches import first_samples
from tfprune.data.model_comparison import full_shape, random_input
from tfprune.data.model_inputs import inputs_of_specs
from tfprune.runtime.artifact import TensorSpec

Samples = dict[str, np.ndarray]
"""An array for each input of a model, all with the same number of samples."""

LIMIT = 512


def calibration_samples(
    data: Any, inputs: Sequence[TensorSpec], *, limit: int = LIMIT
) -> tuple[Samples, int | None]:
    """Return `batches.first_samples` by input name, and the total number of samples.

    Example:
        >>> image = TensorSpec("image", (-1, 2), "float32")
        >>> calibration_samples([[0.0, 1.0], [2.0, 3.0]], [image])[0]["image"].tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    arrays, total = first_samples(data, inputs_of_specs(inputs), "calibration", limit)
    return {spec.name: array for spec, array in zip(inputs, arrays, strict=True)}, total


def random_samples(
    inputs: Sequence[TensorSpec],
    count: int,
    vocabulary: Mapping[str, int],
    *,
    seed: int = 0,
    open_size: int = 8,
) -> Samples:
    """Return random samples: normal for floats, uniform for integers.

    Args:
        inputs: What the model takes.
        count: Number of samples.
        vocabulary: Number of values of each input of indices, by name.
        seed: The same seed gives the same samples.
        open_size: What open sizes other than the batch become.
    """
    rng = np.random.default_rng(seed)
    samples = {}
    for spec in inputs:
        high = vocabulary.get(spec.name, 256 if spec.dtype == "uint8" else 2)
        samples[spec.name] = random_input(
            rng,
            full_shape((-1, *spec.shape[1:]), count, open_size),
            spec.dtype,
            whole=(0, high),
            indices=spec.name in vocabulary,
        )
    return samples
