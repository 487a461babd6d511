"""All changes to the graph of a SavedModel that a file needs."""

from pathlib import Path
from typing import Any

from tfprune.deploy.converter.rewrites.activations import (
    limit_apart,
    select_scalar_zeros,
    split_at_zero,
)
from tfprune.deploy.converter.rewrites.convolutions import add_before_moving, dilate_convolutions
from tfprune.deploy.converter.rewrites.graph import functions_of
from tfprune.deploy.converter.rewrites.integers import (
    limit_masked_scores,
    multiply_instead_of_negate,
)
from tfprune.deploy.converter.rewrites.kernels import (
    count_by_one_hot,
    inline_calls,
    keep_indices_whole,
    one_hot_by_comparing,
    roll_by_gathering,
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
    with functions_of(folder) as functions:
        # Training under rounding has found ranges for the operations as they are.
        ranged = any(
            node.op.startswith("FakeQuant") for function in functions for node in function.node_def
        )
        for function in functions:
            _for_any_file(function)
            roll_by_gathering(function)
            dilate_convolutions(function)
            pool_volumes(function)
            convolve_volumes(function)
            if activations != "float":
                _for_integers(function, activations, ranged=ranged)


def rewrite_for_onnx(folder: Path) -> None:
    """Replace operations that ONNX does not have.

    Args:
        folder: The SavedModel; its graph is changed in place, once.
    """
    with functions_of(folder) as functions:
        for function in functions:
            _for_any_file(function)
            inline_calls(function)


def _for_any_file(function: Any) -> None:
    reshape_by_constants(function)
    take_zeros_for_equal(function)
    trust_shapes(function)
    count_by_one_hot(function)


def _for_integers(function: Any, activations: str, *, ranged: bool) -> None:
    keep_indices_whole(function)
    one_hot_by_comparing(function)
    square_by_multiplying(function)
    if ranged:
        add_before_moving(function)
    else:
        split_at_zero(function)
        if activations == "int8":
            limit_apart(function)
        select_scalar_zeros(function)
    # The runtime has a PReLU for 8 bits, not for 16.
    multiply_instead_of_negate(function, prelu=activations == "int8")
    limit_masked_scores(function)
