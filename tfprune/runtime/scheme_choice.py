"""The files that `scheme="auto"` built, what was measured of each, and which one was taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tfprune.errors import OptionError, nearest
from tfprune.runtime.schemes import SCHEMES

AUTO = "auto"
"""The scheme that builds candidates, measures them and takes one."""

Prefer = Literal["latency", "size"]
PREFER = get_args(Prefer)
TIE = 0.03
"""Ratios of latency nearer than this are equal: two runs of one file differ by as much."""


@dataclass(frozen=True)
class Candidate:
    """One scheme that was tried.

    Attributes:
        scheme: Its name.
        raw_bytes: The size of its file; None when it could not be made.
        gzip_bytes: Its size under gzip -9.
        median_ms: Its median latency.
        ratio: Its time over that of the float32 file, from interleaved pairs.
        q1: The lower quartile of that.
        q3: The upper quartile.
        score: Accuracy on the labeled data; None without labels.
        drop: What it loses against the float32 file, of accuracy or (without labels) of agreement,
            or, for outputs without classes, the error as a fraction of the output's scale.
        passed: Whether `drop` is within the gate.
        reason: Why it was not taken.
    """

    scheme: str
    raw_bytes: int | None = None
    gzip_bytes: int | None = None
    median_ms: float | None = None
    ratio: float | None = None
    q1: float | None = None
    q3: float | None = None
    score: float | None = None
    drop: float | None = None
    passed: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Choice:
    """What was tried, and by what rule one was taken.

    Attributes:
        taken: The scheme of the file.
        why: One sentence.
        prefer: "latency" or "size".
        max_drop: The gate.
        judged_by: What `drop` is: "accuracy", "agreement" or "error".
        measured_on: The machine, the runtime and the clock.
        rows: One for each scheme, in the order in which they were tried.
    """

    taken: str
    why: str
    prefer: str
    max_drop: float
    judged_by: str
    measured_on: str
    rows: tuple[Candidate, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The heads of the columns of `cells`."""
        return ("scheme", "file", "gzip", "median", "ratio [quartiles]", self.judged_by, "verdict")

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """The table, a row for each candidate."""
        return tuple(_words(row, row.scheme == self.taken) for row in self.rows)

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """Return the table and the reason as text."""
        table = [self.columns, *self.cells]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
            for row in table
        ]
        return "\n".join([*lines, self.why, self.measured_on])


def _words(row: Candidate, taken: bool) -> tuple[str, ...]:
    def show(value: float | None, form: str, scale: float = 1.0, unit: str = "") -> str:
        return "–" if value is None else format(value * scale + 0.0, form) + unit  # + 0.0: no -0

    ratio = "–" if row.ratio is None else f"{row.ratio:.2f}x [{row.q1:.2f}, {row.q3:.2f}]"
    return (
        row.scheme,
        show(row.raw_bytes, ".1f", 1e-3, " KB"),
        show(row.gzip_bytes, ".1f", 1e-3, " KB"),
        show(row.median_ms, ".4g", 1.0, " ms"),
        ratio,
        show(row.drop, "+.4f", -1.0),
        "taken" if taken else row.reason,
    )


def pick(rows: Sequence[Candidate], prefer: str) -> Candidate:
    """Return the candidate to take: the fastest, or the smallest, of those within the gate.

    Latencies nearer than `TIE` to the fastest are equal: the smallest of those is taken.

    Raises:
        OptionError: `prefer` is none of the two.
        ValueError: None is within the gate.

    Example:
        >>> rows = [Candidate("float32", 400, 400, 1.0, 1.0, passed=True),
        ...         Candidate("int8", 100, 90, 0.3, 0.3, passed=True),
        ...         Candidate("int4", 50, 50, 0.29, 0.29, passed=False)]
        >>> pick(rows, "latency").scheme, pick(rows, "size").scheme
        ('int8', 'int8')
    """
    check_prefer(prefer)
    able = [row for row in rows if row.passed and row.ratio is not None]
    if not able:
        raise ValueError("no candidate keeps the gate")
    if prefer == "size":
        return min(able, key=lambda row: (row.gzip_bytes or 0, row.ratio))
    fastest = min(row.ratio or 0.0 for row in able)
    ties = [row for row in able if (row.ratio or 0.0) <= fastest * (1 + TIE)]
    return min(ties, key=lambda row: (row.gzip_bytes or 0, row.ratio))


def check_prefer(prefer: str) -> None:
    """Refuse a preference that is none.

    Raises:
        OptionError: It is not.
    """
    if prefer not in PREFER:
        raise OptionError(f"prefer: {prefer!r}. {nearest(str(prefer), PREFER)}")


def check_scheme(name: str) -> None:
    """Refuse what is neither a way of storing a model nor "auto", which chooses one.

    Raises:
        OptionError: No such scheme.
    """
    known = [*SCHEMES, AUTO]
    if not isinstance(name, str) or name not in known:
        raise OptionError(f"unknown scheme {name!r}. {nearest(str(name), known)}")
