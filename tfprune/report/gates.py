"""What a compression promised, and whether it kept the promise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfprune.errors import OptionError

if TYPE_CHECKING:
    from tfprune.report.data import Report, Row

# 0.97 - 0.96 is a little more than 0.01 in binary; such a result keeps a limit of 0.01.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Gate:
    """Limits that a result must keep; None leaves a figure free.

    Args:
        max_accuracy_drop: How much of the metric may be lost against the baseline file: 0.01 is
            one point of accuracy.
        min_compression: How many times smaller than the baseline file it must be, gzip against
            gzip.
        max_latency_ratio: How many times as long as the baseline file it may take: 1.0 allows no
            slowdown.

    Raises:
        OptionError: A limit is negative or no number.
    """

    max_accuracy_drop: float | None = None
    min_compression: float | None = None
    max_latency_ratio: float | None = None

    def __post_init__(self) -> None:
        check_limits(vars(self))


def check_limits(limits: Mapping[str, object]) -> None:
    """Raise OptionError for a limit that is neither None nor a number of at least 0."""
    for name, limit in limits.items():
        if limit is None:
            continue
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0:
            raise OptionError(f"gate {name}: expected a number >= 0. Received {limit!r}")


@dataclass(frozen=True)
class GateResult:
    """The verdict of one limit on one file.

    Attributes:
        name: The limit: `max_accuracy_drop`.
        row: The file it was held against.
        limit: What was allowed.
        value: What was found; None when the figure was not measured, which is a miss.
        passed: Whether it was kept.
    """

    name: str
    row: str
    limit: float
    value: float | None
    passed: bool

    def __str__(self) -> str:
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        verdict = "passed" if self.passed else "MISSED"
        return f"{verdict}: {self.name} of {self.row}: {value}, limit {self.limit:g}"


def judge(report: "Report", gate: Gate) -> tuple[GateResult, ...]:
    """Return the verdict of every limit that is set, on every candidate of a report.

    A figure that was not measured, or was played by a stand-in device, misses its limit: a promise
    that nobody looked at is not kept.
    """
    results = []
    for row in report.candidates:
        for name, limit, value in _figures(report, row, gate):
            results.append(hold(name, row.name, limit, value))
    return tuple(results)


def hold(name: str, row: str, limit: float, value: float | None) -> GateResult:
    """Return the verdict of one limit; the name says whether it is the least or the most."""
    if value is None:
        return GateResult(name, row, limit, None, False)
    least = name.startswith("min_")
    passed = value >= limit - ROUNDING if least else value <= limit + ROUNDING
    return GateResult(name, row, limit, value, passed)


def _figures(report: "Report", row: "Row", gate: Gate) -> list[tuple[str, float, float | None]]:
    """Pair each limit that is set with what was found."""
    base = report.baseline
    figures: list[tuple[str, float, float | None]] = []
    if gate.max_accuracy_drop is not None:
        known = base.score is not None and row.score is not None
        drop = base.score - row.score if known else None  # type: ignore[operator]
        figures.append(("max_accuracy_drop", gate.max_accuracy_drop, drop))
    if gate.min_compression is not None:
        figures.append(("min_compression", gate.min_compression, base.gzip_bytes / row.gzip_bytes))
    if gate.max_latency_ratio is not None:
        real = report.conditions is not None and not report.conditions.fake
        ratio = row.latency_ratio.median if real and row.latency_ratio else None
        figures.append(("max_latency_ratio", gate.max_latency_ratio, ratio))
    return figures
