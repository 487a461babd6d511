"""`prune_low_magnitude` and `strip_pruning`, as in tensorflow-model-optimization."""

import functools
from typing import Any, TypeVar

import keras

from tfprune.graph.kernels import PrunableKernel, walk_layers
from tfprune.keras_support.models import is_tf_keras
from tfprune.sparsity import pruning
from tfprune.sparsity.choices import patterns
from tfprune.sparsity.choices.schedules import ConstantSparsity, PruningSchedule
from tfprune.sparsity.masks import Hold
from tfprune.sparsity.pruning import roots_of, start
from tfprune.tfmot_compat import adapter, files
from tfprune.tfmot_compat.options import (
    Options,
    choices_of,
    hide,
    set_layer_options,
    show,
)

M = TypeVar("M")  # a model, a layer, or a list of layers


def prune_low_magnitude(
    to_prune: Any,
    pruning_schedule: PruningSchedule = ConstantSparsity(0.5, 0),  # noqa: B008 - it is frozen
    block_size: tuple[int, int] = (1, 1),
    block_pooling_type: patterns.BlockPooling = "AVG",
    pruning_policy: Any = None,
    sparsity_m_by_n: tuple[int, int] | None = None,
    *,
    strict: bool = False,
    **kwargs: Any,
) -> Any:
    """Prune by magnitude on a schedule while the model trains.

    A drop-in replacement for tensorflow-model-optimization's function, which is called for
    models, layers and lists of `tf_keras`; those of Keras 3 are pruned here and returned
    themselves. Kernels that are already held are not changed.

    Args:
        to_prune: A model, a layer, or a list of layers.
        pruning_schedule: When and how much to prune, in steps of the optimizer.
        block_size: (height, width) of the blocks that are kept or zeroed together.
        block_pooling_type: `"AVG"` or `"MAX"`: how a block is scored.
        pruning_policy: An object that decides which layers may be pruned.
        sparsity_m_by_n: (m, n): m *zeros* in every n consecutive inputs. The schedule then only
            determines when.
        strict: Raise if a layer has weights but no kernel that tfprune knows.
        **kwargs: Options of a single layer: `input_shape`, `input_dim`, `batch_input_shape`,
            `trainable`; for `tf_keras` any.

    Returns:
        `to_prune` itself (Keras 3), or the result of tensorflow-model-optimization (`tf_keras`).
        The layers of Keras 3 show the options as attributes, as its wrappers do; they keep their
        names and configs and have no attribute `layer`.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> prune_low_magnitude(model, ConstantSparsity(0.5, begin_step=0)) is model
        True
    """
    if is_tf_keras(to_prune):
        return adapter.prune_low_magnitude(
            to_prune,
            pruning_schedule=pruning_schedule,
            block_size=block_size,
            block_pooling_type=block_pooling_type,
            pruning_policy=pruning_policy,
            sparsity_m_by_n=sparsity_m_by_n,
            **kwargs,
        )
    options = Options(pruning_schedule, block_size, block_pooling_type, sparsity_m_by_n)
    choices = choices_of(options, functools.partial(_reason_to_leave, pruning_policy))
    if pruning_policy is not None and isinstance(to_prune, keras.Model):
        pruning_policy.ensure_model_supports_pruning(to_prune)
    set_layer_options(to_prune, kwargs)
    pruned = start(to_prune, choices, strict)
    roots = roots_of(pruned, "prune_low_magnitude")
    show(options, roots, pruning_policy)
    files.record(roots)
    return pruned


def _reason_to_leave(policy: Any, kernel: PrunableKernel) -> str:
    if isinstance(kernel.variable.constraint, Hold):
        return "already held by an earlier call"
    if policy is not None and not policy.allow_pruning(kernel.layer):
        return "left out by the pruning policy"
    return ""


def strip_pruning(model: M) -> M:
    """Apply the masks of a model a last time and remove them.

    Args:
        model: A model from `prune` or `prune_low_magnitude`, trained.

    Returns:
        `model` itself (Keras 3), or a stripped copy (`tf_keras`).

    Warns:
        ScheduleWarning: If a schedule never pruned anything, if a mask was replaced by another
            constraint, or if something other than the optimizer had changed pruned weights, so
            that the accuracy measured before is not this model's.

    Example:
        >>> import tfprune
        >>> model = tfprune.prune(keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]), 0.5)
        >>> strip_pruning(model) is model
        True
    """
    if is_tf_keras(model):
        return adapter.strip_pruning(model)
    stripped = pruning.strip_pruning(model)
    roots = roots_of(stripped, "strip_pruning")
    hide(roots)
    for root in roots:
        files.forget(list(walk_layers([root])))
    return stripped
