"""The candidates of `scheme="auto"`, their measurements, and the chosen one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from tfprune.errors import OptionError, nearest
from tfprune.runtime.schemes import SCHEMES

AUTO = "auto"
"""The scheme that builds candidates, measures them and chooses one."""

Prefer = Literal["latency", "size"]
PREFER = get_args(Prefer)
TIE = 0.03
"""Ratios of latency closer than this are equal: two runs of one file differ by as much."""


@dataclass(frozen=True)
class Candidate:
    """One scheme that was tried.

    Attributes:
        scheme: Its name.
        raw_bytes: The size of its file; None if the conversion failed.
        gzip_bytes: Its size under gzip -9.
        median_ms: Its median latency.
        ratio: Its time relative to the float32 file, from interleaved pairs.
        q1: The lower quartile of the ratio.
        q3: The upper quartile of the ratio.
        score: Accuracy on the labeled data; None without labels.
        drop: Its loss against the float32 file, of accuracy or (without labels) of agreement, or,
            for outputs without classes, the error as a fraction of the output's scale.
        passed: Whether `drop` is within the gate.
        reason: Why it was not chosen.
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
    """The candidates, and the rule by which one was chosen.

    Attributes:
        taken: The chosen scheme.
        why: One sentence.
        prefer: "latency" or "size".
        max_drop: The gate.
        judged_by: The quantity of `drop`: "accuracy", "agreement" or "error".
        measured_on: The machine, the runtime and the clock.
        rows: One for each scheme, in the order of the trials.
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
        """Return the headers of the columns of `cells`."""
        return ("scheme", "file", "gzip", "median", "ratio [quartiles]", self.judged_by, "verdict")

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """Return the table, a row for each candidate."""
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
        "chosen" if taken else row.reason,
    )


def pick(rows: Sequence[Candidate], prefer: str) -> Candidate:
    """Return the best candidate: the fastest, or the smallest, of those within the gate.

    Of latencies closer than `TIE` to the fastest, the smallest file is chosen.

    Raises:
        OptionError: `prefer` is neither of the two.
        ValueError: No candidate is within the gate.

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
        raise ValueError("no candidate passes the gate")
    if prefer == "size":
        return min(able, key=lambda row: (row.gzip_bytes or 0, row.ratio))
    fastest = min(row.ratio or 0.0 for row in able)
    ties = [row for row in able if (row.ratio or 0.0) <= fastest * (1 + TIE)]
    return min(ties, key=lambda row: (row.gzip_bytes or 0, row.ratio))


def check_prefer(prefer: str) -> None:
    """Raise unless a preference is known.

    Raises:
        OptionError: It is unknown.
    """
    if prefer not in PREFER:
        raise OptionError(f"prefer: unknown value {prefer!r}. {nearest(str(prefer), PREFER)}")


def check_scheme(name: str) -> None:
    """Raise unless a name is a scheme or "auto".

    Raises:
        OptionError: It is unknown.
    """
    known = [*SCHEMES, AUTO]
    if not isinstance(name, str) or name not in known:
        raise OptionError(f"unknown scheme {name!r}. {nearest(str(name), known)}")
