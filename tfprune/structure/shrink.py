"""Shrinking a model to a target, and the report on it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from tfprune.graph.inputs import InputShape
from tfprune.graph.rebuild import Rebuilt, operations
from tfprune.keras_support.losses import Loss
from tfprune.keras_support.models import compile_like
from tfprune.structure.groups.units import Units, units
from tfprune.structure.proof.prove import Proof, prove
from tfprune.structure.rebuild.cut import Cut
from tfprune.structure.rebuild.rebuild import rebuild
from tfprune.structure.rebuild.repair import repaired
from tfprune.structure.report import BlockChange, Cost, GroupChange, LayerChange, ShrinkReport
from tfprune.structure.select.cost_meter import Meter
from tfprune.structure.select.plan import Plan, plan_of
from tfprune.structure.targets.options import TARGETS, ShrinkOptions
from tfprune.utils.filters import Filters, as_filters
from tfprune.utils.progress import SILENT, Progress


def shrink(
    model: keras.Model,
    target: dict[str, float] | str | Plan | None,
    *,
    importance: str | Callable[[np.ndarray], np.ndarray] = "l2",
    ranking: str = "global",
    data: Any = None,
    loss: Loss | None = None,
    round_to: int = 8,
    only: Filters[Any] = (),
    skip: Filters[Any] = (),
    ratios: Mapping[str, float] | None = None,
    cap: float = 0.95,
    heads: bool = True,
    verify: bool = True,
    repair: Any = None,
    seed: int = 0,
    input_shape: InputShape | None = None,
    progress: Progress = SILENT,
) -> tuple[keras.Model, ShrinkReport]:
    """Return a smaller model with whole units removed, and a report that verifies it.

    The given model is not changed.

    Args:
        model: A built Keras 3 model of any kind.
        target: How much to keep: `{"macs": 0.5}`, `{"params": 0.3}`, `{"channels": 0.5}` or
            `{"tflite_bytes": 200_000}`; up to 1 it is a share, above it an amount. For depth, how
            much to remove: `{"blocks": 0.25}` removes a quarter of the residual blocks whose
            skip path is the identity, rounded, at least one. "zeros" or "gates" removes closed
            units, whose weights are all zero or whose gate is (see `add_gates`), and residual
            branches that add zero. A `Plan` is applied again. None applies only `ratios`.
        importance: The importance of units or blocks: l1, l2, bn_scale, lamp, fpgm, taylor,
            hessian, activation, random, or a function of a weight as (positions, everything
            else) that returns a number for each position.
        ranking: How the removal is distributed over groups: uniform, global, isomorphic, or fast
            (uniform, but more from groups that take more time than their multiplications).
        data: Data for importances that need it: inputs, (inputs, labels) or (inputs, labels,
            weights), or a dataset or another iterable of these. Several inputs are a list or a
            dict.
        loss: The loss for taylor and hessian; by default the one the model is compiled with.
        round_to: Kept numbers of channels are multiples of this, unless there are fewer.
        only: Names or regular expressions of layers (or predicates of a `Group`, for blocks of
            a `ResidualBlock`): only these are cut.
        skip: Layers or groups that are not cut, in the same forms.
        ratios: The share to keep, by name or regular expression of layers, instead of the
            ranking's.
        cap: The largest share of one group that may be removed.
        heads: Whether attention heads may be removed.
        verify: Whether to verify the small model against the original.
        repair: Unlabeled data, to update the kept kernels by least squares so that they
            compensate for the removed channels (not for "zeros" and "gates", which are exact); a
            note names the layers that this does not reach.
        seed: Seed of the inputs for verification and of importance random.
        input_shape: The shape of the input without the batch (or a structure of shapes), if
            the model leaves it open.
        progress: Where to report progress.

    Returns:
        An ordinary Keras model, which needs no other custom objects than the original, and the
        report.

    Raises:
        ModelError: The model cannot be read or rebuilt, the verification failed, or the target is
            in blocks and none is removable.
        FilterError: A name in `only`, `skip` or `ratios` matches nothing that can be cut.
        OptionError: An option is out of its range, or the target cannot be met.
        DataError: The importance needs data that is missing.
        ConversionError: The target is in bytes, and the model cannot be converted.

    Example:
        >>> import keras
        >>> import tfprune
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(32, name="hidden"),
        ...                           keras.layers.Dense(2)])
        >>> small, report = tfprune.shrink(model, {"channels": 0.5})
        >>> small.get_layer("hidden").units, report.exact
        (16, True)
    """
    options = ShrinkOptions(
        target=target,
        importance=importance,
        ranking=ranking,
        data=data,
        loss=loss,
        round_to=round_to,
        only=as_filters("only", only),
        skip=as_filters("skip", skip),
        ratios=ratios,
        cap=cap,
        heads=heads,
        verify=verify,
        repair=repair,
        seed=seed,
        input_shape=input_shape,
    )
    compile_anew = compile_like(model)
    proof = None
    with progress.task("shrink", 4) as task:
        found = units(model, input_shape=input_shape)
        task.advance()
        cut = TARGETS[options.kind](found, options)
        task.advance()
        if repair is not None:
            cut = repaired(cut, repair)
        small = rebuild(cut)
        task.advance()
        if verify:
            proof = prove(cut, small, seed=seed, input_shape=input_shape)
        task.advance()
    compile_anew(small.model)
    return small.model, build_report(cut, small, proof, options)


def build_report(
    cut: Cut, small: Rebuilt, proof: Proof | None, options: ShrinkOptions
) -> ShrinkReport:
    """Return the report on a shrunk model; `proof` is None if verification was skipped."""
    whole, left, arms = cut.whole, cut.left, cut.branches.arms
    meter = Meter(whole)
    meter_left = meter if left is whole else Meter(left)
    changed = [group for group in left.groups if not cut.kept_mask[group.units].all()]
    reasons = tuple(dict.fromkeys(reason for group in changed for reason in group.reasons))
    name = getattr(options.importance, "__name__", "custom")
    importance = options.importance if isinstance(options.importance, str) else name
    zeroed = "units and branches" if arms else "units"
    return ShrinkReport(
        model=whole.model.name,
        target=_target(options),
        importance=importance if options.kind in ("blocks", "cost") else None,
        ranking=options.ranking if options.kind == "cost" else None,
        round_to=options.round_to,
        before=_cost(meter, meter.everything),
        after=replace(_cost(meter_left, cut.kept_mask), params=small.model.count_params()),
        achieved=_achieved(cut, options, meter, meter_left),
        groups=_groups(cut),
        layers=_layers(cut, small),
        exact=not reasons,
        reasons=reasons,
        error=None if proof is None else proof.error,
        against="the original" + ("" if cut.same else f" with the removed {zeroed} zeroed"),
        frozen=tuple((line.layer, line.reason) for line in whole.frozen),
        notes=(*whole.graph.notes, *_masks_left(whole), *cut.branches.notes, *cut.notes),
        plan=plan_of(cut),
        blocks=tuple(
            BlockChange(block.name, block.layers, block.arm in arms, block.reason)
            for block in whole.blocks
        ),
    )


def _target(options: ShrinkOptions) -> dict[str, float] | str | None:
    """Return the target as the report shows it."""
    if options.cost is not None:
        return {options.cost.cost: options.cost.value}
    return "plan" if isinstance(options.target, Plan) else options.target


def _cost(meter: Meter, kept_mask: np.ndarray) -> Cost:
    macs = meter.macs(kept_mask)
    return Cost(
        int(meter.params(kept_mask)),
        None if math.isnan(macs) else round(macs),
        int(meter.channels(kept_mask)),
    )


def _achieved(cut: Cut, options: ShrinkOptions, meter: Meter, meter_left: Meter) -> float | None:
    """Return the share that was achieved of the cost in the target, or None."""
    kind = None if options.cost is None else options.cost.cost
    if kind == "blocks":
        return len(cut.branches.arms) / sum(block.removable for block in cut.whole.blocks)
    if kind not in ("macs", "params", "channels"):
        return None
    return meter_left.measure(kind, cut.kept_mask) / meter.measure(kind, meter.everything)


def _groups(cut: Cut) -> tuple[GroupChange, ...]:
    """Return the groups of the original with the number of units before and after."""
    homes = {(id(p.op), p.key): group for group in cut.left.groups for p in group.producers}
    changes = []
    for group in cut.whole.groups:
        kept = [homes[key] for p in group.producers if (key := (id(p.op), p.key)) in homes]
        after = int(cut.kept_mask[kept[0].units].sum()) if kept else 0
        changes.append(GroupChange(group.name, group.kind, len(group.units), after, group.exact))
    return tuple(changes)


def _layers(cut: Cut, small: Rebuilt) -> tuple[LayerChange, ...]:
    ops = small.ops
    return tuple(
        LayerChange(op.name, op.count_params(), ops[id(op)].count_params() if id(op) in ops else 0)
        for op in operations(cut.whole.graph)
        if isinstance(op, keras.Layer) and op.weights
    )


def _masks_left(found: Units) -> list[str]:
    count = sum(
        getattr(getattr(weight, "constraint", None), "is_pruning_mask", False)
        for weight in found.model.weights
    )
    if not count:
        return []
    return [
        f"the pruning masks of {count} weights are not copied to the small model: its zeros do "
        "not survive training unless it is pruned again"
    ]
