"""What a compression promised, and whether it kept the promise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfprune.errors import OptionError, type_name
from tfprune.report.data import ROUNDING, Conditions, GateResult, Row


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Limits that a result must keep; None leaves a figure free.

    Args:
        min_accuracy: The least it may score on the data.
        max_accuracy_drop: How much of the metric may be lost against the baseline file: 0.01 is
            one point of accuracy.
        max_bytes: The most it may weigh.
        max_gzip_bytes: The most it may weigh under gzip.
        min_compression: How many times smaller than the baseline file it must be, gzip against
            gzip.
        max_latency_ms: The most its median latency may be.
        max_latency_ratio: How many times as long as the baseline file it may take: 1.0 allows no
            slowdown.

    Raises:
        OptionError: A limit is negative or no number.
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
    """Raise OptionError for what is no `Gate`."""
    if not isinstance(gate, Gate):
        raise OptionError(
            "gate: expected a Gate, such as Gate(max_accuracy_drop=0.01). "
            f"Received {type_name(gate)}"
        )


def check_limits(limits: Mapping[str, object]) -> None:
    """Raise OptionError for a limit that is neither None nor a number of at least 0."""
    for name, limit in limits.items():
        if limit is None:
            continue
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0:
            raise OptionError(f"gate {name}: expected a number >= 0. Received {limit!r}")


def judge(rows: Sequence[Row], conditions: Conditions | None, gate: Gate) -> tuple[GateResult, ...]:
    """Return the verdict of every limit that is set, on every row after the first, the baseline.

    A figure that was not measured, or was played by a stand-in device, misses its limit: a promise
    that nobody looked at is not kept.
    """
    results = []
    real = conditions is not None and not conditions.fake
    for row in rows[1:]:
        for name, limit, value in _figures(rows[0], row, real, gate):
            results.append(hold(name, row.name, limit, value))
    return tuple(results)


def hold(name: str, row: str, limit: float, value: float | None) -> GateResult:
    """Return the verdict of one limit; the name says whether it is the least or the most."""
    if value is None:
        return GateResult(name, row, limit, None, False)
    least = name.startswith("min_")
    passed = value >= limit - ROUNDING if least else value <= limit + ROUNDING
    return GateResult(name, row, limit, value, passed)


def _figures(base: Row, row: Row, timed: bool, gate: Gate) -> list[tuple[str, float, float | None]]:
    """Pair each limit that is set with what was found."""
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
