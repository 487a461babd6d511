"""The figures of a report as short texts, in one list for all renderings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfprune.report.data import Cell, Ratio, Row

if TYPE_CHECKING:
    from tfprune.report.report import Report


NONE = "–"


@dataclass(frozen=True)
class Figure:
    """One figure as text, for each row; `best` has the indexes of the rows with the best value.

    A figure that no row has is omitted from a report.
    """

    label: str
    cells: tuple[str, ...]
    best: tuple[int, ...] = ()


def figures(report: "Report") -> tuple[Figure, ...]:
    """Return every figure that at least one row of a report has."""
    measures = report.all_measures
    base, fake = report.baseline, report.conditions is not None and report.conditions.fake

    def smaller(dense_bytes: int, row_bytes: int) -> str:
        if dense_bytes == row_bytes:
            return ""
        if dense_bytes < row_bytes:
            return f" ({row_bytes / dense_bytes:.1f}x larger)"
        return f" ({dense_bytes / row_bytes:.1f}x smaller)"

    def score(index: int) -> Callable[[Row], str | None]:
        def show(row: Row) -> str | None:
            found, dense = row_scores(row), row_scores(base)
            if len(found) <= index:
                return None
            compared = row is not base and len(dense) > index
            return measures[index].text(found[index], dense[index] if compared else None)

        return show

    def timed(show: Callable[[Row], str | None]) -> Callable[[Row], str | None]:
        # The figures of a fake device are not shown.
        return (lambda row: None) if fake else show

    table: list[tuple[str, Callable[[Row], str | None]]] = [
        ("scheme", lambda row: row.scheme or None),
        *((measure.name, score(index)) for index, measure in enumerate(measures)),
        ("agreement with baseline", lambda row: percent(row.agreement)),
        ("max output difference", lambda row: number_text(row.max_abs_error)),
        (
            "file",
            lambda row: f"{bytes_text(row.raw_bytes)}{smaller(base.raw_bytes, row.raw_bytes)}",
        ),
        (
            "file, gzip",
            lambda row: f"{bytes_text(row.gzip_bytes)}{smaller(base.gzip_bytes, row.gzip_bytes)}",
        ),
        ("file, zstd", lambda row: bytes_text(row.zstd_bytes)),
        ("entropy of its weights", lambda row: bytes_text(row.entropy_bytes)),
        ("weights in the file", lambda row: count_text(row.weights)),
        ("zeros in the file", lambda row: percent(row.sparsity)),
        ("parameters", lambda row: count_text(row.params)),
        ("zero parameters", lambda row: count_text(row.zeros)),
        ("multiply-accumulates", lambda row: si(row.macs)),
        ("latency, median", timed(lambda row: ms(row.median_ms))),
        ("latency, p90", timed(lambda row: ms(row.p90_ms))),
        ("latency ratio", timed(lambda row: ratio(row.latency_ratio))),
        ("peak memory", lambda row: bytes_text(row.peak_bytes)),
    ]
    best = _best(report)
    found = []
    for label, show in table:
        cells = [show(row) for row in report.rows]
        if any(cells):
            found.append(Figure(label, tuple(cell or NONE for cell in cells), best.get(label, ())))
    return tuple(found)


def _best(report: "Report") -> dict[str, tuple[int, ...]]:
    """Return the best rows by figure, if more than one row has the figure."""

    def rows(values: list[float | None], high: bool = False) -> tuple[int, ...]:
        known = [value for value in values if value is not None]
        if len(known) < 2 or len(set(known)) < 2:
            return ()
        top = max(known) if high else min(known)
        return tuple(index for index, value in enumerate(values) if value == top)

    return {
        **{
            measure.name: rows(
                [(*row_scores(row), *[None] * (index + 1))[index] for row in report.rows],
                high=measure.higher_is_better,
            )
            for index, measure in enumerate(report.all_measures)
        },
        "file": rows([row.raw_bytes for row in report.rows]),
        "file, gzip": rows([row.gzip_bytes for row in report.rows]),
        "file, zstd": rows([row.zstd_bytes for row in report.rows]),
        "latency, median": rows([row.median_ms for row in report.rows]),
        "peak memory": rows([row.peak_bytes for row in report.rows]),
    }


def row_scores(row: Row) -> tuple[float, ...]:
    """Return all scores of a row; reports before tasks had one."""
    return row.scores or (() if row.score is None else (row.score,))


def conditions_text(report: "Report") -> str:
    """Return one sentence on where and how latency was measured; empty when it was not."""
    seen = report.conditions
    if seen is None:
        return ""
    if seen.fake:
        return f"Latency was not measured: {seen.device} is a fake device."
    return (
        f"Latency on {seen.device} ({seen.machine}, {seen.system}) with {seen.runtime}, "
        f"{seen.threads} thread{'s' if seen.threads > 1 else ''}, {seen.clock}, "
        f"{seen.runs} interleaved pairs. Ratios are relative to the baseline, median [quartiles]; "
        f"the baseline against itself gives {ratio(seen.noise)}."
    )


def samples_text(report: "Report") -> str:
    """Return one sentence on the samples of the metric; empty when there is none."""
    if not report.samples:
        return ""
    return (
        f"{report.metric[0].upper()}{report.metric[1:]} is measured on the files themselves, "
        f"on {report.samples:,} samples."
    )


def versions_text(report: "Report") -> str:
    """Return the versions of packages in one line."""
    return ", ".join(f"{package} {version}" for package, version in report.versions.items())


def bytes_text(value: int | None) -> str | None:
    """Return a number of bytes as short text.

    Example:
        >>> bytes_text(171_900), bytes_text(999), bytes_text(24_500_000)
        ('171.9 KB', '999 B', '24.5 MB')
    """
    if value is None:
        return None
    if value < 1000:
        return f"{value} B"
    return f"{value / 1e3:.1f} KB" if value < 1e6 else f"{value / 1e6:.1f} MB"


def count_text(value: int | None) -> str | None:
    """Return a whole number with thousands separators."""
    return None if value is None else f"{value:,}"


def si(value: int | None) -> str | None:
    """Return a large number with a suffix K, M or G.

    Example:
        >>> si(300_774_272), si(950), si(12_400)
        ('300.8 M', '950', '12.4 K')
    """
    if value is None:
        return None
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= limit:
            return f"{value / limit:.1f} {letter}"
    return str(value)


def percent(value: float | None) -> str | None:
    """Return a share in percent."""
    return None if value is None else f"{100 * value:.1f} %"


def number_text(value: float | None) -> str | None:
    """Return a number with three significant digits."""
    return None if value is None else f"{value:.3g}"


def ms(value: float | None) -> str | None:
    """Return milliseconds with three significant digits."""
    return None if value is None else f"{value:#.3g} ms" if value < 100 else f"{value:.0f} ms"


def ratio(value: Ratio | None) -> str | None:
    """Return a ratio with its quartiles.

    Example:
        >>> ratio(Ratio(0.5, 0.49, 0.52, 50))
        '0.50x [0.49, 0.52]'
    """
    return None if value is None else f"{value.median:.2f}x [{value.q1:.2f}, {value.q3:.2f}]"


def seconds(value: float) -> str:
    """Return a duration as text.

    Example:
        >>> seconds(3.2), seconds(75)
        ('3.2 s', '1 min 15 s')
    """
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s"


def cell(value: Cell) -> str:
    """Return a cell of a section's table."""
    if value is None:
        return NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)
