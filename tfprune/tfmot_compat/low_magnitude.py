"""`prune_low_magnitude` and `strip_pruning`, as in tensorflow-model-optimization."""

import functools
from collections.abc import Iterable
from typing import Any, TypeVar

import keras

from tfprune.errors import OptionError
from tfprune.keras_support.models import is_tf_keras
from tfprune.sparsity import pruning
from tfprune.sparsity.choices import allocation as allocations
from tfprune.sparsity.choices import patterns, scores
from tfprune.sparsity.choices.patterns import Block, KeepOf, Pattern, Unstructured
from tfprune.sparsity.choices.schedules import ConstantSparsity, PruningSchedule
from tfprune.sparsity.kernels import PrunableKernel
from tfprune.sparsity.masks import Choices, Hold
from tfprune.sparsity.pruning import as_schedule, start
from tfprune.tfmot_compat import adapter

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
        **kwargs: Passed on, for `tf_keras` layers only.

    Returns:
        `to_prune` itself (Keras 3), or the result of tensorflow-model-optimization (`tf_keras`).

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
    if kwargs:
        raise OptionError(
            f"prune_low_magnitude: unexpected argument {sorted(kwargs)[0]!r}; "
            "only tf_keras layers accept further ones"
        )
    choices = Choices(
        score=scores.SCORES["magnitude"],
        pattern=_low_magnitude_pattern(block_size, block_pooling_type, sparsity_m_by_n),
        allocation=allocations.uniform,
        schedule=as_schedule(pruning_schedule),
        leave=functools.partial(_reason_to_leave, pruning_policy),
    )
    if pruning_policy is not None and isinstance(to_prune, keras.Model):
        pruning_policy.ensure_model_supports_pruning(to_prune)
    return start(to_prune, choices, strict)


def _reason_to_leave(policy: Any, kernel: PrunableKernel) -> str:
    if isinstance(kernel.variable.constraint, Hold):
        return "already held by an earlier call"
    if policy is not None and not policy.allow_pruning(kernel.layer):
        return "left out by the pruning policy"
    return ""


def _low_magnitude_pattern(
    block_size: Iterable[int],
    pooling: patterns.BlockPooling,
    sparsity_m_by_n: tuple[int, int] | None,
) -> Pattern:
    block = tuple(block_size)
    if len(block) != 2:
        raise OptionError(f"block_size: expected (height, width). Received {block!r}.")
    if sparsity_m_by_n is not None:
        pair = tuple(sparsity_m_by_n)
        if len(pair) != 2 or not all(isinstance(v, int) for v in pair):
            raise OptionError(f"sparsity_m_by_n: expected two whole numbers. Received {pair!r}.")
        if block != (1, 1):
            raise OptionError("sparsity_m_by_n and block_size exclude each other: pass only one")
        return KeepOf(pair[1] - pair[0], pair[1])
    checked = Block(block[0], block[1], pooling)
    return Unstructured() if block == (1, 1) else checked


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
    return pruning.strip_pruning(model)
