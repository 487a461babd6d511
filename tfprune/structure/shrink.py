"""The front door: a smaller model for a cost that is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from tfprune.errors import OptionError
from tfprune.graph.read import InputShape
from tfprune.keras_support.cloning import compile_like
from tfprune.keras_support.losses import Loss
from tfprune.structure.build_report import make_report
from tfprune.structure.depth.choose_blocks import choose_blocks
from tfprune.structure.depth.closed_branches import dead_branches
from tfprune.structure.depth.remove_branches import Branches, branches_of, prove_branches
from tfprune.structure.gates.remove_closed import check_gates, sweep
from tfprune.structure.groups.units import units
from tfprune.structure.plan import Plan, blocks_of, removed_by
from tfprune.structure.proof.prove import prove
from tfprune.structure.rebuild.rebuild import read_weights, rebuild
from tfprune.structure.rebuild.repair import repaired
from tfprune.structure.report import ShrinkReport
from tfprune.structure.select.cost_meter import Meter
from tfprune.structure.select.importance import IMPORTANCES, Evidence, judge
from tfprune.structure.select.ranking import RANKINGS, Choice, choose
from tfprune.structure.select.target import Target, parse_target
from tfprune.structure.select.tflite_size import meet_file_size
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
    """A smaller model with whole units removed, and the report that proves it.

    The model that is given is not changed.

    Args:
        model: A built Keras 3 model of any kind.
        target: What may stay: `{"macs": 0.5}`, `{"params": 0.3}`, `{"channels": 0.5}` or
            `{"tflite_bytes": 200_000}`; up to 1 it is a share, above it an amount. Depth is asked
            for by what goes: `{"blocks": 0.25}` takes out a quarter of the residual blocks whose
            skip path is the identity, rounded, at least one. "zeros" or "gates" for what training
            has closed: units whose weights are all zero, or whose gate is (see `add_gates`), and
            residual branches that add nothing. A `Plan` to apply again. None if only `ratios`
            are to be applied.
        importance: How units, or blocks, are judged: l1, l2, bn_scale, lamp, fpgm, taylor,
            hessian, activation, random, or a function of a weight as (positions, everything
            else) that gives a number for each position.
        ranking: How the total is shared out: uniform, global, isomorphic, or fast (uniform, but
            less of groups that take more time than their multiplications tell).
        data: For what is judged on data: inputs, (inputs, labels) or (inputs, labels, weights);
            or a dataset or another iterable of these. Several inputs are a list or a dict.
        loss: The loss for taylor and hessian; by default the one the model is compiled with.
        round_to: Numbers of channels that stay are multiples of this where there are as many.
        only: Names or regular expressions of layers (or predicates of a `Group`, for blocks of
            a `Block`): nothing else is cut.
        skip: Those that stay.
        ratios: The share that stays, by name or regular expression of layers, instead of what
            the ranking says.
        cap: The largest share of one group that may go.
        heads: Whether attention heads may go.
        verify: Whether to prove the small model against the original.
        repair: Unlabelled data from which the kernels that stay are made to do the work of the
            rows that go, by least squares (not for "zeros" and "gates", which lose nothing); a
            note names the layers that it does not reach.
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
        ModelError: Blocks are asked for, and there is none that could be taken out.
        OptionError: An option is out of its range, or the target cannot be met.
        DataError: The importance needs data that is not there.
        ConversionError: A size of the file is asked for, and the model cannot be one.

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
    depth = wanted.value if wanted is not None and wanted.cost == "blocks" else None
    if target is None and not ratios:
        raise OptionError("shrink target: None is allowed only with ratios=")
    _check_options(importance, ranking, round_to, cap, seed)
    _check_kinds(heads, verify, ratios)
    if depth is not None and (ratios or repair is not None):
        raise OptionError(
            "shrink target blocks: ratios= and repair= are about channels. Shrink twice: first "
            "by blocks, then by channels"
        )
    only, skip = as_filters("only", only), as_filters("skip", skip)
    if (closed or isinstance(target, Plan)) and (only or skip or ratios):
        raise OptionError(
            f"shrink target {closed or 'plan'}: it says itself what goes: leave out only=, skip= "
            "and ratios="
        )
    if closed and repair is not None:
        raise OptionError(f"shrink target {closed}: it loses nothing to repair: leave out repair=")
    compile_anew = compile_like(model)
    with progress.task("shrink", 4) as task:
        found = units(model, input_shape=input_shape)
        if closed == "gates":
            check_gates(found)
        task.advance()
        weights = read_weights(found)
        evidence = Evidence(found, weights, data, loss, seed)
        branches = Branches({})
        if closed:
            branches = dead_branches(found, weights)
        elif isinstance(target, Plan):
            branches = branches_of(blocks_of(found, target))
        elif depth is not None:
            branches = choose_blocks(found, evidence, importance, depth, only, skip)
        left = branches.taken_from(found, input_shape)
        meter = Meter(left)
        if closed or depth is not None:
            choice = Choice(np.zeros(0, int))
        elif isinstance(target, Plan):
            choice = Choice(removed_by(left, target))
        else:
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
                    only=only,
                    skip=skip,
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
                left,
                weights,
                closed,
                whole=found,
                verify=verify,
                seed=seed,
                input_shape=input_shape,
            )
        else:
            alive = left.alive(choice.removed)
            if repair is not None:
                weights, notes = repaired(left, weights, alive, repair)
                choice = replace(choice, notes=(*choice.notes, *notes))
            small, ops = rebuild(left, alive, weights)
        task.advance()
        if verify and not closed:
            proof: dict[str, Any] = {"seed": seed, "input_shape": input_shape}
            error = 0.0
            if branches.arms:
                built = None if len(choice.removed) else (small, ops)
                error = prove_branches(found, left, branches, weights, built, **proof).error
            if len(choice.removed) or not branches.arms:
                error = max(error, prove(left, alive, weights, small, ops, **proof).error)
        task.advance()
    compile_anew(small)
    name = importance if isinstance(importance, str) else getattr(importance, "__name__", "custom")
    shown: dict[str, float] | str | None = {wanted.cost: wanted.value} if wanted else closed
    judged = not closed and not isinstance(target, Plan)
    silenced = "units and branches" if branches.arms else "units"
    if isinstance(target, Plan):
        shown = "plan"
    report = make_report(
        found,
        left,
        small,
        ops,
        choice,
        branches,
        error,
        meter_left=meter,
        target=shown,
        importance=name if judged else None,
        ranking=ranking if judged and depth is None else None,
        round_to=round_to,
        against="the original" if closed else f"the original with the removed {silenced} silenced",
    )
    return small, report


def _check_options(importance: Any, ranking: Any, round_to: Any, cap: Any, seed: Any) -> None:
    if not callable(importance):
        IMPORTANCES[importance]
    RANKINGS[ranking]
    for option, value, least in (("round_to", round_to, 1), ("seed", seed, 0)):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least:
            raise OptionError(
                f"shrink {option}: expected an integer of at least {least}, not {value!r}"
            )
    if isinstance(cap, bool) or not isinstance(cap, int | float) or not 0 < cap <= 1:
        raise OptionError(f"shrink cap: expected a share in (0, 1]. Received {cap!r}")


def _check_kinds(heads: Any, verify: Any, ratios: Any) -> None:
    for option, value in (("heads", heads), ("verify", verify)):
        if not isinstance(value, bool | np.bool_):
            raise OptionError(f"shrink {option}: expected True or False. Received {value!r}")
    if ratios is not None and not isinstance(ratios, Mapping):
        raise OptionError(
            'shrink ratios: expected the share that stays, by name, as {"conv": 0.5}. '
            f"Received {ratios!r}"
        )
