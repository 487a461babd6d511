"""Pruning a Keras 3 model, and letting it go: `prune`, `strip_pruning`."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import keras

from tfprune.errors import ModelError, OptionError, ScheduleWarning, TfpruneError, type_name
from tfprune.keras_support import generation
from tfprune.keras_support.losses import Loss
from tfprune.keras_support.quantized import refuse_quantized
from tfprune.sparsity.choices import allocation as allocations
from tfprune.sparsity.choices import patterns, scores
from tfprune.sparsity.choices.patterns import AnyPattern
from tfprune.sparsity.choices.schedules import (
    OneShot,
    PruningSchedule,
    check_sparsity,
)
from tfprune.sparsity.gradients import gradient_source
from tfprune.sparsity.kernels import Kernel, walk_layers
from tfprune.sparsity.masks import Choices, Pruning, holds_of, prunings_of, stop_waiting
from tfprune.sparsity.tfmot_schedules import schedule_from_tfmot
from tfprune.utils.filters import Filters, as_filters

_log = logging.getLogger(__name__)

M = TypeVar("M")  # a model, a layer, or a list of layers


def prune(
    model: M,
    sparsity: float = 0.8,
    *,
    score: "str | scores.ScoreFunction" = "magnitude",
    pattern: "str | AnyPattern" = "unstructured",
    allocation: "str | Mapping[str, float] | allocations.Allocation" = "uniform",
    schedule: PruningSchedule | None = None,
    only: Filters[Kernel] = (),
    skip: Filters[Kernel] = (),
    data: Any = None,
    loss: Loss | None = None,
    strict: bool = False,
    seed: int = 0,
) -> M:
    """Return the same model with its kernels pruned, and held so while it trains on.

    Nothing is wrapped or renamed: each kernel gets a mask that the optimizer applies with every
    step. Without a schedule the kernels are pruned at once; with one, `UpdatePruningStep()` has
    to be among the callbacks of `fit`, which warns if it is not. Files of the model carry no
    masks: call `prune` again after loading. A kernel that an earlier call holds goes over to this
    one.
    Where only a part of a model is pruned, `compile()` the whole afterwards: a step that was
    compiled before knows nothing of the masks.

    Args:
        model: A Keras 3 model, layer, or list of layers; built or not.
        sparsity: Fraction of zeros at the end, in [0, 1). Of n:m patterns, what they make: 0.5
            for `2:4`.
        score: What makes a weight worth keeping: `magnitude`, `movement`, `taylor`, `gradient`,
            `random`, or a callable `(weights, evidence) -> scores`.
        pattern: `unstructured`, `block(4,1)`, `2:4` (2 of 4 inputs kept), or a Pattern; `channel`
            or `head` closes whole units, with their biases, gammas and betas, in every layer
            that makes them, so that `shrink(model, "zeros")` removes them. Sparsity is then the
            fraction of units; filters and tables name groups of `tfprune.units(model)`, and
            units that would still speak are left alone and named by `sparsity_of(model)`.
        allocation: `uniform`, `global`, `erk`, or a table of path or regex → final sparsity.
        schedule: When and how much; None prunes now.
        only: Names, regexes on variable paths, or predicates: prune these alone.
        skip: The same: leave these alone.
        data: For scores that need gradients: (inputs, labels), (inputs, labels, weights), or a
            dataset or another iterable of these.
        loss: What to differentiate; the compiled loss when None.
        strict: Raise when a layer has weights but no kernel that tfprune knows.
        seed: For the random score.

    Returns:
        `model` itself.

    Raises:
        ModelError: If there is nothing to prune, or a layer is unknown and `strict`.
        FilterError: If a filter matches no kernel.
        OptionError: If an option is outside of what is allowed.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> model = prune(model, 0.75)
        >>> int(keras.ops.count_nonzero(model.layers[0].kernel))
        8
    """
    check_sparsity(sparsity, "sparsity")
    choices = Choices(
        score=scores.resolve(score),
        pattern=patterns.resolve(pattern),
        allocation=allocations.resolve(allocation),
        schedule=_schedule(schedule, sparsity),
        only=as_filters("only", only),
        skip=as_filters("skip", skip),
        gradients=gradient_source(model, data, loss),
        seed=seed,
    )
    patterns.check_fixed("prune", choices.pattern, sparsity, allocation)
    _check_choices(choices)
    return start(model, choices, strict)


def strip_pruning(model: M) -> M:
    """Return the model with its masks applied a last time and then let go.

    Args:
        model: What `prune` or `prune_low_magnitude` returned, trained.

    Returns:
        `model` itself.

    Warns:
        ScheduleWarning: If a schedule never pruned anything, if a mask was replaced by another
            constraint, or if something other than the optimizer had put weights back, so that the
            accuracy measured before is not this model's.

    Example:
        >>> model = prune(keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)]), 0.5)
        >>> strip_pruning(model) is model
        True
    """
    roots = roots_of(model, "strip_pruning")
    holds = [hold for root in roots for hold in holds_of(root)]
    for pruning in (pruning for root in roots for pruning in prunings_of(root)):
        if pruning.sparsity is None:
            warnings.warn(
                f"strip_pruning: nothing was pruned of {pruning.names()}: the schedule "
                f"{pruning.choices.schedule} never fired. Was UpdatePruningStep() among the "
                "callbacks of fit?",
                ScheduleWarning,
                stacklevel=2,
            )
        if replaced := pruning.replaced():
            warnings.warn(
                f"strip_pruning: {', '.join(replaced)} had a constraint set after prune(), in the "
                "place of the mask: its zeros were not held. Set it before prune(), which keeps it",
                ScheduleWarning,
                stacklevel=2,
            )
    stop_waiting(roots)
    overwritten = {hold.kernel.path: count for hold in holds if (count := hold.release())}
    if overwritten:
        warnings.warn(
            f"strip_pruning: set {sum(overwritten.values()):,} weights of "
            f"{', '.join(overwritten)} to zero that something other than the optimizer had put "
            "back (an average of weights, restored weights): evaluate the model again",
            ScheduleWarning,
            stacklevel=2,
        )
    for root in roots:
        retrace(root)
    return model


def start(model: Any, choices: Choices, strict: bool) -> Any:
    """Return what was given, pruned by these choices from now on."""
    roots = roots_of(model, "prune")
    refuse_quantized(*roots)
    pruning = Pruning(choices)
    pruning.attach(roots)
    try:
        _checkstart(pruning, model, roots, strict)
        if isinstance(choices.schedule, OneShot):
            pruning.advance(0)
    except TfpruneError:
        pruning.detach(roots)
        raise
    for entry in pruning.skipped:
        _log.info("not pruned: %s (%s): %s", entry.layer, entry.kind, entry.reason)
    for root in roots:
        retrace(root)
    return model


def _checkstart(pruning: Pruning, model: Any, roots: list[Any], strict: bool) -> None:
    unknown = [entry for entry in pruning.skipped if not entry.usual]
    if strict and unknown:
        listed = "; ".join(f"{e.layer} ({e.kind}): {e.reason}" for e in unknown)
        raise ModelError(f"prune: strict=True and these layers cannot be pruned: {listed}")
    if all(layer.built for layer in walk_layers(roots)):
        pruning.check_filters()
        if not pruning.holds and isinstance(model, keras.Model) and not holds_of(model):
            raise ModelError(f"prune: the model {model.name!r} has no kernel to prune")
    elif isinstance(pruning.choices.schedule, OneShot):
        raise ModelError(
            "prune: weights to prune now do not exist yet; build the model first "
            "(model.build(input_shape) or call it on data), or give a schedule"
        )


def roots_of(model: Any, call: str) -> list[Any]:
    """Return what a call is about as a list: a model, a layer, or several.

    Raises:
        ModelError: One is neither, or Keras runs on a backend that masks do not work with.
    """
    roots = list(model) if isinstance(model, (list, tuple)) else [model]
    for root in roots:
        if not isinstance(root, keras.layers.Layer):
            hint = (
                " prune_low_magnitude takes tf_keras models."
                if generation.is_tf_keras(root)
                else ""
            )
            raise ModelError(
                f"{call}: expected a Keras 3 model, layer or list of layers. "
                f"Received {type_name(root)}.{hint}"
            )
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"{call}: Keras runs on the {keras.backend.backend()} backend; tfprune needs "
            "TensorFlow: set KERAS_BACKEND=tensorflow before importing keras"
        )
    return roots


def retrace(root: Any) -> None:
    """Drop compiled steps: they have been traced with other constraints."""
    if isinstance(root, keras.Model):
        root.train_function = None


def as_schedule(schedule: Any) -> PruningSchedule:
    """Return a schedule of this package, made of tensorflow-model-optimization's if need be."""
    if isinstance(schedule, PruningSchedule):
        return schedule
    if generation.is_tfmot(schedule):
        return schedule_from_tfmot(schedule)
    raise OptionError(
        f"pruning schedule: expected a tfprune.PruningSchedule. Received {type_name(schedule)}."
    )


def _schedule(schedule: Any, sparsity: float) -> PruningSchedule:
    if schedule is None:
        return OneShot(sparsity)
    schedule = as_schedule(schedule)
    final = schedule.final()
    if final is not None and final != sparsity:
        raise OptionError(
            f"prune: sparsity={sparsity:g}, but the schedule ends at {final:g}: {schedule}. "
            f"Give both the same: prune(model, {final:g}, schedule=…)."
        )
    return schedule


def _check_choices(choices: Choices) -> None:
    if choices.score.needs == "gradient" and choices.gradients is None:
        raise OptionError("prune: this score needs gradients: give data=(x, y)")
    if choices.score.needs == "movement" and isinstance(choices.schedule, OneShot):
        raise OptionError("prune: score='movement' is gathered while training: give a schedule")
