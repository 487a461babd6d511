"""Gates: limits for a compressed model, and their verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfprune.errors import OptionError, type_name
from tfprune.report.data import ROUNDING, Conditions, GateResult, Row


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Limits for a result; None sets no limit.

    Args:
        min_accuracy: Minimum score on the data.
        max_accuracy_drop: Maximum loss of the metric against the baseline file: 0.01 is one point
            of accuracy.
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


def judge(rows: Sequence[Row], conditions: Conditions | None, gate: Gate) -> tuple[GateResult, ...]:
    """Return the verdict of every limit that is set, for every row but the baseline, the first.

    A figure that was not measured, or comes from a fake device, misses its limit.
    """
    results = []
    real = conditions is not None and not conditions.fake
    for row in rows[1:]:
        for name, limit, value in _figures(rows[0], row, real, gate):
            results.append(verdict_of(name, row.name, limit, value))
    return tuple(results)


def verdict_of(name: str, row: str, limit: float, value: float | None) -> GateResult:
    """Return the verdict of one limit, a minimum or a maximum according to its name."""
    if value is None:
        return GateResult(name, row, limit, None, False)
    least = name.startswith("min_")
    passed = value >= limit - ROUNDING if least else value <= limit + ROUNDING
    return GateResult(name, row, limit, value, passed)


def _figures(base: Row, row: Row, timed: bool, gate: Gate) -> list[tuple[str, float, float | None]]:
    """Return each limit that is set with the measured value."""
    known = base.score is not None and row.score is not None
    ratio = row.latency_ratio.median if timed and row.latency_ratio else None
    found = {
        "min_accuracy": row.score,
        "max_accuracy_drop": base.score - row.score if known else None,  # type: ignore[operator]
        "max_bytes": row.raw_bytes,
        "max_gzip_bytes": row.gzip_bytes,
        "min_compression": base.gzip_bytes / row.gzip_bytes,
        "max_latency_ms": row.median_ms if timed else None,
        "max_latency_ratio": ratio,
    }
    return [(name, limit, found[name]) for name, limit in vars(gate).items() if limit is not None]
