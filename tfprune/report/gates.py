"""Gates: limits for a compressed model, and their verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfprune.errors import OptionError, type_name
from tfprune.report.data import ROUNDING, Conditions, GateResult, Measure, Row


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Limits for a result; None sets no limit.

    Args:
        min_accuracy: The same as `min_score`.
        max_accuracy_drop: The same as `max_drop`, for metrics where higher is better.
        max_drop: Maximum loss of the task's metric against the baseline file, in its unit: 0.01 is
            one point of accuracy, or a hundredth of the label's unit of MAE.
        min_score: Minimum of a metric where higher is better.
        max_score: Maximum of a metric where lower is better.
        max_bytes: Maximum size.
        max_gzip_bytes: Maximum size under gzip.
        min_compression: Minimum times smaller than the baseline file, both under gzip.
        max_latency_ms: Maximum median latency.
        max_latency_ratio: Maximum latency relative to the baseline file: 1.0 allows no slowdown.

    Raises:
        OptionError: A limit is negative or not a number.
    """

    min_accuracy: float | None = None
    max_accuracy_drop: float | None = None
    max_drop: float | None = None
    min_score: float | None = None
    max_score: float | None = None
    max_bytes: float | None = None
    max_gzip_bytes: float | None = None
    min_compression: float | None = None
    max_latency_ms: float | None = None
    max_latency_ratio: float | None = None

    def __post_init__(self) -> None:
        check_limits(vars(self))


def check_gate(gate: object) -> None:
    """Raise OptionError unless the argument is a `Gate`."""
    if not isinstance(gate, Gate):
        raise OptionError(
            "gate: expected a Gate, such as Gate(max_accuracy_drop=0.01). "
            f"Received {type_name(gate)}"
        )


def check_limits(limits: Mapping[str, object]) -> None:
    """Raise OptionError unless each limit is None or a number of at least 0."""
    for name, limit in limits.items():
        if limit is None:
            continue
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0:
            raise OptionError(f"gate {name}: expected a number >= 0. Received {limit!r}")


QUALITY = ("min_accuracy", "max_accuracy_drop", "max_drop", "min_score", "max_score")
"""The limits of the task's metric."""

RELATIVE = ("max_accuracy_drop", "max_drop", "min_compression", "max_latency_ratio")
"""The limits that compare with a baseline file."""


def check_direction(limits: Mapping[str, object], measure: Measure) -> None:
    """Raise OptionError if a limit is not for a metric of this direction."""
    higher = measure.higher_is_better
    wrong = {"max_score": "min_score"} if higher else {
        "min_accuracy": "max_score", "min_score": "max_score", "max_accuracy_drop": "max_drop"
    }  # fmt: skip
    for name, other in wrong.items():
        if limits.get(name) is not None:
            raise OptionError(
                f"gate {name}: of {measure.name}, {'higher' if higher else 'lower'} is better; "
                f"set {other}"
            )


def quality(
    measure: Measure, score: float | None, baseline: float | None
) -> dict[str, float | None]:
    """Return the measured value of each limit of the task's metric."""
    loss = None if score is None or baseline is None else measure.loss(baseline, score)
    return {name: loss if name in RELATIVE else score for name in QUALITY}


def judge(
    rows: Sequence[Row], conditions: Conditions | None, gate: Gate, measure: Measure
) -> tuple[GateResult, ...]:
    """Return the verdict of every limit that is set, for every row but the baseline, the first.

    A figure that was not measured, or comes from a fake device, misses its limit.

    Raises:
        OptionError: A limit is not for a metric of this direction.
    """
    check_direction(vars(gate), measure)
    results = []
    real = conditions is not None and not conditions.fake
    for row in rows[1:]:
        for name, limit, value in _figures(rows[0], row, real, gate, measure):
            results.append(verdict_of(name, row.name, limit, value))
    return tuple(results)


def verdict_of(name: str, row: str, limit: float, value: float | None) -> GateResult:
    """Return the verdict of one limit, a minimum or a maximum according to its name."""
    if value is None:
        return GateResult(name, row, limit, None, False)
    least = name.startswith("min_")
    passed = value >= limit - ROUNDING if least else value <= limit + ROUNDING
    return GateResult(name, row, limit, value, passed)


def _figures(
    base: Row, row: Row, timed: bool, gate: Gate, measure: Measure
) -> list[tuple[str, float, float | None]]:
    """Return each limit that is set with the measured value."""
    ratio = row.latency_ratio.median if timed and row.latency_ratio else None
    found = {
        **quality(measure, row.score, base.score),
        "max_bytes": row.raw_bytes,
        "max_gzip_bytes": row.gzip_bytes,
        "min_compression": base.gzip_bytes / row.gzip_bytes,
        "max_latency_ms": row.median_ms if timed else None,
        "max_latency_ratio": ratio,
    }
    return [(name, limit, found[name]) for name, limit in vars(gate).items() if limit is not None]
