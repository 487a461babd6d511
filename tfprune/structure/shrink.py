"""The front door: a smaller model for a cost that is asked for."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from tfprune.errors import OptionError
from tfprune.filters import as_filters
from tfprune.progress import SILENT, Progress
from tfprune.sparsity.masks import holds_of
from tfprune.structure.budget import Meter
from tfprune.structure.choice import RANKINGS, Choice, choose
from tfprune.structure.importance import IMPORTANCES, Evidence, judge
from tfprune.structure.oracle import prove
from tfprune.structure.plan import Plan, plan_of, removed_by
from tfprune.structure.rebuild import operations, read_weights, rebuild
from tfprune.structure.repair import repaired
from tfprune.structure.report import Cost, GroupChange, LayerChange, ShrinkReport
from tfprune.structure.sweep import sweep
from tfprune.structure.target import Target, parse_target
from tfprune.structure.tflite_size import meet_file_size
from tfprune.structure.units import Units, units


def shrink(
    model: Any,
    target: Any,
    *,
    importance: str | Callable[[np.ndarray], np.ndarray] = "l2",
    ranking: str = "global",
    data: Any = None,
    loss: Any = None,
    round_to: int = 8,
    only: str | Sequence[str | Callable] = (),
    skip: str | Sequence[str | Callable] = (),
    ratios: Mapping[str, float] | None = None,
    cap: float = 0.95,
    heads: bool = True,
    verify: bool = True,
    repair: Any = None,
    seed: int = 0,
    input_shape: Any = None,
    progress: Progress = SILENT,
) -> tuple[Any, ShrinkReport]:
    """A smaller model with whole units removed, and the report that proves it.

    The model that is given is not changed.

    Args:
        model: A built Keras 3 model of any kind.
        target: What may stay: `{"macs": 0.5}`, `{"params": 0.3}`, `{"channels": 0.5}` or
            `{"tflite_bytes": 200_000}`; up to 1 it is a share, above it an amount. "zeros" or
            "gates" for what training has closed: units whose weights are all zero, or whose
            gate is (see `add_gates`). A `Plan` to apply again. None if only `ratios` are to be
            applied.
        importance: How units are judged: l1, l2, bn_scale, lamp, fpgm, taylor, hessian,
            activation, random, or a function of a weight as (positions, everything else) that
            gives a number for each position.
        ranking: How the total is shared out: uniform, global or isomorphic.
        data: Inputs, or (inputs, labels), or batches of them, for what is judged on data.
        loss: The loss for taylor and hessian; by default the one the model is compiled with.
        round_to: Numbers of channels that stay are multiples of this where there are as many.
        only: Names or regular expressions of layers (or predicates of a `Group`): nothing else
            is cut.
        skip: Those that stay.
        ratios: The share that stays, by name or regular expression of layers, instead of what
            the ranking says.
        cap: The largest share of one group that may go.
        heads: Whether attention heads may go.
        verify: Whether to prove the small model against the original.
        repair: Unlabelled data from which the kernels that stay are made to do the work of the
            rows that go, by least squares (not for "zeros" and "gates", which lose nothing).
        seed: For the proof's inputs and for importance random.
        input_shape: The shape of the input without the batch (or a structure of shapes), where
            the model leaves it open.
        progress: Where to report to.

    Returns:
        An ordinary Keras model, which needs no custom objects that the original did not need,
        and the report.

    Raises:
        ModelError: The model cannot be read or rebuilt, or the proof failed.
        FilterError: A name in `only`, `skip` or `ratios` matches nothing that can be cut.
        OptionError: An option is out of its range, or the target cannot be met.
        DataError: The importance needs data that is not there.

    Example:
        >>> import keras
        >>> import tfprune
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(32, name="hidden"),
        ...                           keras.layers.Dense(2)])
        >>> small, report = tfprune.shrink(model, {"channels": 0.5})
        >>> small.get_layer("hidden").units, report.exact
        (16, True)
    """
    closed = target if target in ("zeros", "gates") else None
    wanted = None if target is None or closed or isinstance(target, Plan) else parse_target(target)
    if target is None and not ratios:
        raise OptionError("shrink target: None is allowed only with ratios=")
    _check_options(importance, ranking, round_to, cap)
    with progress.task("shrink", 4) as task:
        found = units(model, input_shape=input_shape)
        task.advance()
        weights = read_weights(found)
        meter = Meter(found)
        if closed:
            choice = Choice(np.zeros(0, int))
        elif isinstance(target, Plan):
            choice = Choice(removed_by(found, target))
        else:
            evidence = Evidence(found, weights, data, loss, seed)
            score = judge(importance, evidence)

            def pick(wanted: Target | None) -> Choice:
                return choose(
                    found,
                    meter,
                    score,
                    wanted,
                    ranking=ranking,
                    round_to=round_to,
                    cap=cap,
                    only=as_filters("only", only),
                    skip=as_filters("skip", skip),
                    ratios=ratios,
                    heads=heads,
                )

            if wanted is not None and wanted.cost == "tflite_bytes":
                choice = meet_file_size(found, meter, weights, wanted, pick)
            else:
                choice = pick(wanted)
        task.advance()
        error = None
        if closed:
            small, ops, choice, error = sweep(
                found, weights, closed, verify=verify, seed=seed, input_shape=input_shape
            )
        else:
            alive = found.alive(choice.removed)
            if repair is not None:
                weights = repaired(found, weights, alive, repair)
            small, ops = rebuild(found, alive, weights)
        task.advance()
        if verify and not closed:
            proof = prove(found, alive, weights, small, ops, seed=seed, input_shape=input_shape)
            error = proof.error
        task.advance()
    carry_compile(model, small)
    name = importance if isinstance(importance, str) else getattr(importance, "__name__", "custom")
    shown = {wanted.cost: wanted.value} if wanted else closed
    if isinstance(target, Plan):
        shown = "plan"
    report = make_report(
        found,
        meter,
        small,
        ops,
        choice,
        error,
        target=shown,
        importance=name,
        ranking=ranking,
        round_to=round_to,
        against="the original" if closed else "the original with the removed units silenced",
    )
    return small, report


def _check_options(importance: Any, ranking: str, round_to: int, cap: float) -> None:
    if not callable(importance):
        IMPORTANCES[importance]
    RANKINGS[ranking]
    if isinstance(round_to, bool) or not isinstance(round_to, int) or round_to < 1:
        raise OptionError(f"shrink round_to: expected an integer of at least 1, not {round_to!r}")
    if isinstance(cap, bool) or not isinstance(cap, int | float) or not 0 < cap <= 1:
        raise OptionError(f"shrink cap: expected a share in (0, 1]. Received {cap!r}")


def carry_compile(model: Any, small: Any) -> None:
    """Compile the small model as the original was; its optimizer starts anew."""
    if getattr(model, "compiled", False):
        config = model.get_compile_config()
        if config:
            small.compile_from_config(config)


def make_report(
    found: Units,
    meter: Meter,
    small: Any,
    ops: dict[int, Any],
    choice: Choice,
    error: float | None,
    *,
    target: Any,
    importance: str,
    ranking: str,
    round_to: int,
    against: str,
) -> ShrinkReport:
    """The report on a model that was shrunk."""
    alive = found.alive(choice.removed)
    groups = tuple(
        GroupChange(g.name, g.kind, len(g.units), int(alive[g.units].sum()), g.exact)
        for g in found.groups
    )
    reasons: list[str] = []
    for group, change in zip(found.groups, groups, strict=True):
        if change.before != change.after:
            reasons.extend(group.reasons)
    layers = tuple(
        LayerChange(op.name, op.count_params(), ops[id(op)].count_params() if id(op) in ops else 0)
        for op in operations(found.graph)
        if isinstance(op, keras.Layer) and op.weights
    )
    before = _cost(found, meter, meter.everything)
    after = replace(_cost(found, meter, alive), params=small.count_params())
    achieved = None
    if isinstance(target, dict):
        ((kind, _),) = target.items()
        if kind in ("macs", "params", "channels"):
            achieved = meter.measure(kind, alive) / meter.measure(kind, meter.everything)
    return ShrinkReport(
        model=found.model.name,
        target=target,
        importance=importance,
        ranking=ranking,
        round_to=round_to,
        before=before,
        after=after,
        achieved=achieved,
        groups=groups,
        layers=layers,
        exact=not reasons,
        reasons=tuple(dict.fromkeys(reasons)),
        error=error,
        against=against,
        frozen=tuple((line.layer, line.reason) for line in found.frozen),
        notes=(*found.graph.notes, *_masks_left(found), *choice.notes),
        plan=plan_of(found, choice.removed),
    )


def _masks_left(found: Units) -> list[str]:
    count = len(holds_of(found.model))
    if not count:
        return []
    return [
        f"the masks that hold zeros in {count} weights stay with the original: the small model "
        "keeps its zeros only until it is trained, unless it is pruned again"
    ]


def _cost(found: Units, meter: Meter, alive: np.ndarray) -> Cost:
    macs = meter.macs(alive)
    return Cost(
        int(meter.params(alive)),
        None if math.isnan(macs) else round(macs),
        int(meter.channels(alive)),
    )
