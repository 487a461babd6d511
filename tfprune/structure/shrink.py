"""Shrinking a model to a target."""

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
