"""What may be asked of `to_tflite`, checked before any work is done."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.deploy.converter.weight_only import Rule, weight_rules
from tfprune.errors import OptionError, nearest
from tfprune.graph.model_signature import check_batch
from tfprune.runtime import flatbuffer
from tfprune.runtime.schemes import SCHEMES, Scheme
from tfprune.workers import pool


@dataclass(frozen=True)
class Options:
    """How a file is made, whatever its scheme: the arguments of `to_tflite` of these names."""

    calibration: Any = None
    io: str | None = None
    batch: int | None = None
    input_signature: Any = None
    layers: Mapping[str, str] | None = None
    allow_float: Sequence[str] = ()
    bound: float | None = None
    time_limit_s: float = pool.CONVERT_LIMIT_S


@dataclass(frozen=True)
class Settings:
    """Options that were checked for a scheme, with its own values where none were given."""

    name: str
    plan: Scheme
    io: str
    batch: int | None
    rules: list[Rule] | None
    allowed: frozenset[str]
    bound: float
    limit_s: float


def settings_for(name: str, options: Options) -> Settings:
    """Return options as a scheme takes them.

    Raises:
        OptionError: No such scheme, or it cannot have one of them.
        FilterError: A pattern of `layers` is no regular expression.
    """
    plan = SCHEMES[name]
    check_time_limit(options.time_limit_s)
    return Settings(
        name=name,
        plan=plan,
        io=check_io(name, plan, options.io),
        bound=check_bound(options.bound) or plan.bound,
        batch=check_batch(options.batch),
        allowed=check_allowed(options.allow_float),
        rules=check_layers(name, plan, {} if options.layers is None else options.layers),
        limit_s=options.time_limit_s,
    )


def check_io(name: str, plan: Scheme, io: str | None) -> str:
    """Return the type of float inputs and outputs: the one given, or the scheme's own.

    Raises:
        OptionError: The scheme cannot have it.
    """
    if io is not None and io not in plan.io:
        raise OptionError(f"io: scheme {name!r} allows {', '.join(plan.io)}; got {io!r}")
    return io or plan.io[0]


def check_calibration(name: str, plan: Scheme, calibrated: bool) -> None:
    """Refuse integer arithmetic whose ranges nothing tells.

    Raises:
        OptionError: The scheme needs samples, and there are none.
    """
    if plan.needs_calibration and not calibrated:
        raise OptionError(
            f"calibration: scheme {name!r} needs samples of the model's input to see the ranges "
            "of its activations; give calibration=x_train[:200]"
        )


def check_bound(bound: float | None) -> float | None:
    """Return a bound; refuse one that no difference can be held against.

    Raises:
        OptionError: It is no positive number.
    """
    number = isinstance(bound, int | float | np.number) and not isinstance(bound, bool)
    if bound is not None and not (number and 0 < bound < np.inf):
        raise OptionError(f"bound: expected a positive number, got {bound!r}")
    return None if bound is None else float(bound)


def check_time_limit(seconds: float) -> None:
    """Refuse a time in which nothing can be done.

    Raises:
        OptionError: It is no positive number.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise OptionError(f"time_limit_s: expected a positive number of seconds, got {seconds!r}")


def check_layers(name: str, plan: Scheme, layers: Mapping[str, str]) -> list[Rule] | None:
    """Return the rules of a scheme that goes layer by layer; None for one that does not.

    Raises:
        OptionError: The scheme is for the whole model, or one of `layers` cannot be had.
        FilterError: A pattern is no regular expression.
    """
    if not isinstance(layers, Mapping) or not all(isinstance(key, str) for key in layers):
        raise OptionError(
            "layers: expected a dict from regular expressions on names to schemes, like "
            f"{{'dense_1/': 'float32'}}; got {layers!r}"
        )
    if plan.weight_bits is not None:
        return weight_rules(name, layers)
    if layers:
        raise OptionError(
            f"layers: scheme {name!r} is for the whole model; per layer there are "
            f"{', '.join(key for key in SCHEMES if SCHEMES[key].weight_bits is not None)}"
        )
    return None


def check_allowed(names: Collection[str]) -> frozenset[str]:
    """Return the operations that may stay float.

    Raises:
        OptionError: One is no operation.
    """
    if isinstance(names, str) or not isinstance(names, Collection):
        raise OptionError(f"allow_float: expected a list of operation names, got {names!r}")
    known = flatbuffer.op_names()
    for name in names:
        if name not in known:
            close = nearest(str(name), known)
            raise OptionError(f"allow_float: unknown operation {name!r}. {close}")
    return frozenset(names)
