"""All changes to the graph of a SavedModel that a `.tflite` file needs."""

from pathlib import Path

from tfprune.deploy.converter.rewrites.activations import (
    limit_apart,
    select_scalar_zeros,
    split_at_zero,
)
from tfprune.deploy.converter.rewrites.graph import functions_of
from tfprune.deploy.converter.rewrites.integers import (
    limit_masked_scores,
    multiply_instead_of_negate,
)
from tfprune.deploy.converter.rewrites.kernels import (
    count_by_one_hot,
    one_hot_by_comparing,
    square_by_multiplying,
    take_zeros_for_equal,
    trust_shapes,
)
from tfprune.deploy.converter.rewrites.sizes import reshape_by_constants
from tfprune.deploy.converter.rewrites.volumes import convolve_volumes, pool_volumes


def rewrite(folder: Path, activations: str) -> None:
    """Replace operations that the converter or the runtime does not take.

    Args:
        folder: The SavedModel; its graph is changed in place, once.
        activations: As in `Scheme`.
    """
    integers = activations != "float"
    with functions_of(folder) as functions:
        for function in functions:
            reshape_by_constants(function)
            take_zeros_for_equal(function)
            trust_shapes(function)
            count_by_one_hot(function)
            pool_volumes(function)
            convolve_volumes(function)
            if integers:
                one_hot_by_comparing(function)
                square_by_multiplying(function)
                split_at_zero(function)
                if activations == "int8":
                    limit_apart(function)
                select_scalar_zeros(function)
                # The runtime has a PReLU for 8 bits, not for 16.
                multiply_instead_of_negate(function, prelu=activations == "int8")
                limit_masked_scores(function)
