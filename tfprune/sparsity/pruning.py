"""Pruning a Keras 3 model, and removing the masks: `prune`, `strip_pruning`."""

import logging
import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import keras

from tfprune.errors import ModelError, OptionError, ScheduleWarning, TfpruneError, type_name
from tfprune.graph.kernels import PrunableKernel, refuse_unknown, stop_waiting, walk_layers
from tfprune.keras_support.losses import Loss
from tfprune.keras_support.models import is_tf_keras, is_tfmot, refuse_quantized
from tfprune.sparsity.choices import allocation as allocations
from tfprune.sparsity.choices import patterns, scores
from tfprune.sparsity.choices.patterns import AnyPattern
from tfprune.sparsity.choices.schedules import OneShot, PruningSchedule, check_sparsity
from tfprune.sparsity.gradients import gradient_source
from tfprune.sparsity.masks import Choices, Pruning, holds_of, prunings_of
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
    only: Filters[PrunableKernel] = (),
    skip: Filters[PrunableKernel] = (),
    data: Any = None,
    loss: Loss | None = None,
    strict: bool = False,
    seed: int = 0,
) -> M:
    """Prune the kernels of a model with masks that hold while it trains.

    It returns the same model, with nothing wrapped or renamed: each kernel gets a mask that the
    optimizer applies in every step. Without a schedule the kernels are pruned at once; with one,
    `UpdatePruningStep()` must be among the callbacks of `fit`, which warns if it is not. Saved
    models have no masks: call `prune` again after loading. A kernel that an earlier call holds is
    then held by this one.
    If only a part of a model is pruned, `compile()` the whole model afterwards: a step that was
    compiled before does not apply the masks.

    Args:
        model: A Keras 3 model, layer, or list of layers; built or not.
        sparsity: Fraction of zeros at the end, in [0, 1). For n:m patterns, their own: 0.5 for
            `2:4`.
        score: The score of weights: `magnitude`, `movement`, `taylor`, `gradient`, `random`, or
            a callable `(weights, evidence) -> scores`.
        pattern: `unstructured`, `block(4,1)`, `2:4` (2 of 4 inputs kept), or a Pattern. `channel`
            or `head` zeros whole units, with their biases, gammas and betas, in every layer
            that makes them, so that `shrink(model, "zeros")` removes them. Sparsity is then the
            fraction of units; filters and tables name groups of `tfprune.units(model)`. Units
            whose output would not be constant are skipped and listed by `sparsity_of(model)`.
        allocation: `uniform`, `global`, `erk`, or a table of path or regex → final sparsity.
        schedule: When and how much to prune; None prunes now.
        only: Names, regexes on variable paths, or predicates: prune only these.
        skip: Kernels not to prune, in the same forms.
        data: Data for scores that need gradients: (inputs, labels), (inputs, labels, weights), or
            a dataset or another iterable of these.
        loss: The loss to differentiate; the compiled loss if None.
        strict: Raise if a layer has weights but no kernel that tfprune knows.
        seed: Seed of the random score.

    Returns:
        `model` itself.

    Raises:
        ModelError: If there is nothing to prune, or a layer is unknown and `strict`.
        FilterError: If a filter matches no kernel.
        OptionError: If an option is out of its range.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> model = prune(model, 0.75)
        >>> int(keras.ops.count_nonzero(model.layers[0].kernel))
        8
    """
    check_sparsity(sparsity, "sparsity")
    choices = Choices(
        score=scores.resolve_score(score),
        pattern=patterns.resolve_pattern(pattern),
        allocation=allocations.resolve_allocation(allocation),
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
    """Apply the masks of a trained model a last time, remove them, and return the model.

    Warns:
        ScheduleWarning: If a schedule never pruned anything, if a mask was replaced by another
            constraint, or if something other than the optimizer had changed pruned weights, so
            that the accuracy measured before is not this model's.

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
                f"strip_pruning: {pruning.names()} was never pruned: the schedule "
                f"{pruning.choices.schedule} never fired. Was UpdatePruningStep() among the "
                "callbacks of fit?",
                ScheduleWarning,
                stacklevel=2,
            )
        if replaced := pruning.replaced():
            warnings.warn(
                f"strip_pruning: {', '.join(replaced)} had a constraint set after prune(), which "
                "replaced the mask: its zeros were not held. Set it before prune(), which keeps it",
                ScheduleWarning,
                stacklevel=2,
            )
    stop_waiting(roots, "pruning")
    overwritten = {hold.kernel.path: count for hold in holds if (count := hold.release())}
    if overwritten:
        warnings.warn(
            f"strip_pruning: set {sum(overwritten.values()):,} pruned weights of "
            f"{', '.join(overwritten)} back to zero, which something other than the optimizer had "
            "changed (an average of weights, restored weights): evaluate the model again",
            ScheduleWarning,
            stacklevel=2,
        )
    for root in roots:
        retrace(root)
    return model


def start(model: Any, choices: Choices, strict: bool) -> Any:
    """Start pruning a model, layer or list of layers by some choices, and return it."""
    roots = roots_of(model, "prune")
    refuse_quantized(*roots)
    pruning = Pruning(choices)
    pruning.attach(roots)
    try:
        _check_start(pruning, model, roots, strict)
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


def _check_start(pruning: Pruning, model: Any, roots: list[Any], strict: bool) -> None:
    if strict:
        refuse_unknown(pruning.skipped, "prune", "pruned")
    if all(layer.built for layer in walk_layers(roots)):
        pruning.check_filters()
        if not pruning.holds and isinstance(model, keras.Model) and not holds_of(model):
            raise ModelError(f"prune: the model {model.name!r} has no kernel to prune")
    elif isinstance(pruning.choices.schedule, OneShot):
        raise ModelError(
            "prune: the model has no weights to prune yet; build it first "
            "(model.build(input_shape) or call it on data), or pass a schedule"
        )


def roots_of(model: Any, call: str) -> list[Any]:
    """Return a model, a layer, or several layers as a list.

    Raises:
        ModelError: One is neither, or Keras does not run on TensorFlow.
    """
    roots = list(model) if isinstance(model, (list, tuple)) else [model]
    for root in roots:
        if not isinstance(root, keras.layers.Layer):
            hint = " prune_low_magnitude accepts tf_keras models." if is_tf_keras(root) else ""
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
    """Drop the compiled training step, which was traced with other constraints."""
    if isinstance(root, keras.Model):
        root.train_function = None


def as_schedule(schedule: Any) -> PruningSchedule:
    """Return a schedule of this package, converted from tensorflow-model-optimization's."""
    if isinstance(schedule, PruningSchedule):
        return schedule
    if is_tfmot(schedule):
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
            f"Pass the same value to both: prune(model, {final:g}, schedule=…)."
        )
    return schedule


def _check_choices(choices: Choices) -> None:
    if choices.score.needs == "gradient" and choices.gradients is None:
        raise OptionError("prune: this score needs gradients: pass data=(x, y)")
    if choices.score.needs == "movement" and isinstance(choices.schedule, OneShot):
        raise OptionError("prune: score='movement' is measured during training: pass a schedule")
