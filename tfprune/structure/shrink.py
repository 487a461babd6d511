"""The front door: a smaller model for a cost that is asked for."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from tfprune.graph.read import InputShape
from tfprune.keras_support.cloning import compile_like
from tfprune.keras_support.losses import Loss
from tfprune.structure.build_report import build_report
from tfprune.structure.groups.units import units
from tfprune.structure.proof.prove import prove
from tfprune.structure.rebuild.rebuild import rebuild
from tfprune.structure.rebuild.repair import repaired
from tfprune.structure.report import ShrinkReport
from tfprune.structure.select.plan import Plan
from tfprune.structure.targets.asked import TARGETS, Asked
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
        repair: Unlabeled data from which the kernels that stay are made to do the work of the
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
    asked = Asked(
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
        cut = TARGETS[asked.kind](found, asked)
        task.advance()
        if repair is not None:
            cut = repaired(cut, repair)
        small = rebuild(cut)
        task.advance()
        if verify:
            proof = prove(cut, small, seed=seed, input_shape=input_shape)
        task.advance()
    compile_anew(small.model)
    return small.model, build_report(cut, small, proof, asked)
