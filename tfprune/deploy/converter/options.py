"""The options of `to_tflite`, checked before any work is done."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from tfprune.deploy.converter.weight_only import Rule, weight_rules
from tfprune.errors import OptionError, nearest
from tfprune.graph.inputs import InputShape
from tfprune.graph.model_signature import check_batch
from tfprune.runtime import flatbuffer
from tfprune.runtime.schemes import LEARNED, ROUNDINGS, SCHEMES, Rounding, Scheme
from tfprune.workers import pool

Random = Literal["mean"]
"""What random numbers that a model draws become."""


@dataclass(frozen=True)
class Options:
    """Options of every scheme: the arguments of `to_tflite` with these names."""

    calibration: Any = None
    io: str | None = None
    batch: int | None = None
    input_signature: Any = None
    input_shape: InputShape | None = None
    random: Random | None = None
    rounding: Rounding | None = None
    layers: Mapping[str, str] | None = None
    allow_float: Sequence[str] = ()
    bound: float | None = None
    time_limit_s: float = pool.CONVERT_LIMIT_S


@dataclass(frozen=True)
class Settings:
    """Options checked for a scheme, with the scheme's defaults filled in."""

    name: str
    plan: Scheme
    io: str
    batch: int | None
    rules: list[Rule] | None
    allowed: frozenset[str]
    bound: float
    limit_s: float
    rounding: Rounding
    mixed: bool
    chosen: tuple[Rule, ...] = ()


def settings_for(name: str, options: Options) -> Settings:
    """Check options for a scheme and fill in its defaults.

    Raises:
        OptionError: The scheme is unknown, or does not support an option.
        FilterError: A pattern of `layers` is not a regular expression.
    """
    plan = SCHEMES[name]
    check_time_limit(options.time_limit_s)
    check_random(options.random)
    check_rounding(options.rounding)
    return Settings(
        name=name,
        plan=plan,
        io=check_io(name, plan, options.io),
        bound=check_bound(options.bound) or plan.bound,
        batch=check_batch(options.batch),
        allowed=check_allowed(options.allow_float),
        rules=check_layers(name, plan, {} if options.layers is None else options.layers),
        limit_s=options.time_limit_s,
        rounding=options.rounding or ("learned" if name in LEARNED else "nearest"),
        mixed=bool(options.layers),
    )


def check_io(name: str, plan: Scheme, io: str | None) -> str:
    """Return the type of float inputs and outputs: the one given, or the scheme's own.

    Raises:
        OptionError: The scheme does not support it.
    """
    if io is not None and io not in plan.io:
        raise OptionError(f"io: scheme {name!r} allows {', '.join(plan.io)}. Received {io!r}")
    return io or plan.io[0]


def check_calibration(name: str, plan: Scheme, calibrated: bool) -> None:
    """Raise if integer arithmetic has no samples to find its ranges.

    Raises:
        OptionError: The scheme needs samples, and there are none.
    """
    if plan.needs_calibration and not calibrated:
        raise OptionError(
            f"calibration: scheme {name!r} needs samples of the model's input to find the ranges "
            "of its activations; give calibration=x_train[:200]"
        )


def check_random(random: str | None) -> None:
    """Check what random numbers become.

    Raises:
        OptionError: It is not among the allowed values.
    """
    if random is not None and random not in get_args(Random):
        raise OptionError(f"random: expected 'mean' or None. Received {random!r}")


def check_rounding(rounding: str | None) -> None:
    """Check how weights are rounded.

    Raises:
        OptionError: It is not among the allowed values.
    """
    if rounding is not None and rounding not in ROUNDINGS:
        raise OptionError(
            f"rounding: unknown value {rounding!r}. {nearest(str(rounding), ROUNDINGS)}"
        )


def check_bound(bound: float | None) -> float | None:
    """Check and return a bound.

    Raises:
        OptionError: It is not a positive number.
    """
    number = isinstance(bound, int | float | np.number) and not isinstance(bound, bool)
    if bound is not None and not (number and 0 < bound < np.inf):
        raise OptionError(f"bound: expected a positive number. Received {bound!r}")
    return None if bound is None else float(bound)


def check_time_limit(seconds: float) -> None:
    """Check a time limit.

    Raises:
        OptionError: It is not a positive number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise OptionError(
            f"time_limit_s: expected a positive number of seconds. Received {seconds!r}"
        )


def check_layers(name: str, plan: Scheme, layers: Mapping[str, str]) -> list[Rule] | None:
    """Return the rules of a scheme that can differ by layer; None for other schemes.

    Raises:
        OptionError: The scheme applies to the whole model, or one of `layers` is not supported.
        FilterError: A pattern is not a regular expression.
    """
    if not isinstance(layers, Mapping) or not all(isinstance(key, str) for key in layers):
        raise OptionError(
            "layers: expected a dict from regular expressions on names to schemes, like "
            f"{{'dense_1/': 'float32'}}. Received {layers!r}"
        )
    if plan.weight_bits is not None:
        return weight_rules(name, layers)
    if layers:
        raise OptionError(
            f"layers: scheme {name!r} applies to the whole model; per layer, use one of "
            f"{', '.join(key for key in SCHEMES if SCHEMES[key].weight_bits is not None)}"
        )
    return None


def check_allowed(names: Collection[str]) -> frozenset[str]:
    """Return the operations that may stay float.

    Raises:
        OptionError: One is not an operation.
    """
    if isinstance(names, str) or not isinstance(names, Collection):
        raise OptionError(f"allow_float: expected a list of operation names. Received {names!r}")
    known = flatbuffer.op_names()
    for name in names:
        if name not in known:
            close = nearest(str(name), known)
            raise OptionError(f"allow_float: unknown operation {name!r}. {close}")
    return frozenset(names)
