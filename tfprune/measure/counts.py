"""Counts of the weights of a Keras model, and of those that are zero."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.errors import ModelError, type_name
from tfprune.report.data import Kernel


@dataclass(frozen=True)
class WeightCounts:
    """Weights and zeros of a model.

    Attributes:
        params: Number of weights, trainable or not, without the state of random generators.
        trainable: Number of trainable weights.
        zeros: How many of `params` are zero.
        kernels: One entry for each tensor with two axes or more, which pruning can prune.
    """

    params: int
    trainable: int
    zeros: int
    kernels: tuple[Kernel, ...]


def count_weights(model: Any) -> WeightCounts:
    """Count the weights of a built model of Keras 3 or tf_keras, and those that are zero.

    Raises:
        ModelError: It is not a model, or is not built.
    """
    variables = getattr(model, "weights", None)
    if not isinstance(variables, list):
        raise ModelError(f"expected a Keras model. Received {type_name(model)}")
    if getattr(model, "built", True) is False:
        raise ModelError(f"model {model.name!r} is not built; call it on data once")
    # A shared weight is listed once; the state of a random generator is not a weight.
    variables = [
        variable
        for variable in {id(variable): variable for variable in variables}.values()
        if "seed_generator" not in variable.name
    ]
    trained = {id(variable) for variable in model.trainable_weights}
    params = trainable = zeros = 0
    kernels = []
    for variable in variables:
        values = np.asarray(variable)
        nothing = int(values.size - np.count_nonzero(values))
        params += values.size
        zeros += nothing
        if id(variable) in trained:
            trainable += values.size
        if values.ndim > 1:
            path = getattr(variable, "path", variable.name)
            kernels.append(
                Kernel(path.removeprefix(f"{model.name}/"), tuple(values.shape), nothing)
            )
    return WeightCounts(params, trainable, zeros, tuple(kernels))
