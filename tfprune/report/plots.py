"""The plots of a report, as SVG with the colors and the font of the page around it."""

import io
import math
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tfprune.report.data import Curve, Kernel, Row
from tfprune.report.figures import bytes_text, ms, percent
from tfprune.utils.extras import installed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tfprune.report.report import Report

# Matplotlib has fixed colors only. These are placeholders for the page's variables, which differ
# between light and dark screens, and are replaced in the finished SVG.
INK, MUTED, LINE, BASE, ACCENT = "#010101", "#020202", "#030303", "#040404", "#050505"
SERIES = ("#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b")
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    BASE: "--base",
    ACCENT: "--accent",
    **{color: f"--series-{index + 1}" for index, color in enumerate(SERIES)},
}

MAX_KERNELS = 40
MAX_LETTERS = 36
WIDTH_INCHES = 9.6

MISSING = "No plots: they need matplotlib (pip install 'tfprune[report]')."


def available() -> bool:
    """Return whether plots can be drawn; without matplotlib every plot is empty."""
    return installed("matplotlib")


def comparison(report: "Report") -> str:
    """Return bars of metric, download and latency, the baseline in gray; empty without figures."""
    names = [row.name for row in report.rows]
    real = report.conditions is not None and not report.conditions.fake
    panels: list[tuple[str, list[float | None], Callable[[float], str | None]]] = [
        (report.metric, [row.score for row in report.rows], report.measure.text),
        (
            "file, gzip",
            [row.gzip_bytes for row in report.rows],
            lambda value: bytes_text(int(value)),
        ),
        (
            "latency, median and quartiles",
            [row.median_ms if real else None for row in report.rows],
            ms,
        ),
    ]
    panels = [panel for panel in panels if any(value is not None for value in panel[1])]

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (title, values, show) in zip(grid, panels, strict=True):
            heights = [value or 0.0 for value in values]
            colors = [BASE] + [ACCENT] * (len(names) - 1)
            axes.barh(range(len(names)), heights, height=0.62, color=colors)
            top = max(max(heights), 1e-12)
            for index, (row, value) in enumerate(zip(report.rows, values, strict=True)):
                end = value or 0.0
                if title.startswith("latency") and row.q1_ms is not None and row.q3_ms is not None:
                    axes.plot([row.q1_ms, row.q3_ms], [index, index], color=INK, linewidth=1.2)
                    end = max(end, row.q3_ms)
                label = "–" if value is None else show(value)
                axes.text(end + 0.03 * top, index, label, va="center", color=INK, fontsize=9)
            _bare(axes, title)
            axes.set_xlim(min(0.0, *heights) * 1.3, top * 1.42)
            axes.set_yticks(range(len(names)), [short(name) for name in names])
        grid[0].invert_yaxis()

    return _svg("comparison", draw, 0.75 + 0.36 * len(names))


def trade_off(points: Sequence[tuple[str, float, float]]) -> str:
    """Return points of size against score, each a name, times smaller and the change of the score.

    Empty without points.
    """

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        axes.axhline(0.0, color=BASE, linewidth=1)
        for name, smaller, change in points:
            axes.plot([smaller], [change], "o", color=ACCENT, markersize=7)
            axes.annotate(
                short(name), (smaller, change), (7, 5), textcoords="offset points", color=INK,
                fontsize=8.5,
            )  # fmt: skip
        for spine in ("top", "right"):
            axes.spines[spine].set_visible(False)
        axes.tick_params(colors=MUTED, labelsize=8.5)
        axes.margins(0.12)
        axes.set_xlabel("times smaller than the baseline, gzip", color=MUTED, fontsize=9.5)
        axes.set_ylabel("change of the score", color=MUTED, fontsize=9.5)

    return _svg("trade-off", draw, 3.4) if points else ""


def sparsity(row: Row) -> str:
    """Return bars of the zeros of each weight tensor of a model; empty when it has no zeros."""
    kernels = largest(row.kernels)
    if not any(kernel.zeros for kernel in kernels):
        return ""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        places = range(len(kernels))
        axes.barh(places, [1.0] * len(kernels), height=0.62, color=LINE)
        axes.barh(places, [kernel.sparsity for kernel in kernels], height=0.62, color=ACCENT)
        for place, kernel in zip(places, kernels, strict=True):
            shape = " x ".join(map(str, kernel.shape))
            label = f"{percent(kernel.sparsity)}  of {kernel.size:,} ({shape})"
            axes.text(1.015, place, label, va="center", color=MUTED, fontsize=8.5)
        _bare(axes, "")
        axes.set_xlim(0, 1.45)
        axes.set_yticks(places, [short(kernel.name) for kernel in kernels], fontsize=8.5)
        axes.invert_yaxis()

    return _svg(f"sparsity {row.name}", draw, 0.3 + 0.24 * len(kernels))


def short(name: str) -> str:
    """Return a name shortened to leave room for the bars: the end of a long one.

    Example:
        >>> short("encoder/layer_11/attention/self/query/kernel")
        '…ayer_11/attention/self/query/kernel'
    """
    return name if len(name) <= MAX_LETTERS else f"…{name[1 - MAX_LETTERS :]}"


def largest(kernels: Sequence[Kernel]) -> list[Kernel]:
    """Return the largest weight tensors that fit a plot, in the order of the model."""
    kept = sorted(kernels, key=lambda kernel: -kernel.size)[:MAX_KERNELS]
    return [kernel for kernel in kernels if kernel in kept]


def training(history: Sequence[Curve]) -> str:
    """Return the training curves, stages one after the other; empty without curves."""
    panels = _panels(history)
    if not panels:
        return ""

    def draw(figure: "Figure") -> None:
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
        starts, epochs = _starts(history), sum(_lengths(history).values())
        for axes, names in zip(grid, panels, strict=True):
            bases = list(dict.fromkeys(name.removeprefix("val_") for name in names))
            for name in names:
                color = SERIES[bases.index(name.removeprefix("val_")) % len(SERIES)]
                style = "--" if name.startswith("val_") else "-"
                x: list[float] = []
                y: list[float] = []
                for curve in history:
                    if curve.name == name:
                        # NaN interrupts the line between stages.
                        first = starts[curve.stage] + 1
                        x += [*range(first, first + len(curve.values)), math.nan]
                        y += [*curve.values, math.nan]
                mark = "o" if len(x) < 16 else ""
                axes.plot(x, y, style, marker=mark, markersize=3, color=color, label=name)
            for stage, start in starts.items():
                if start:
                    axes.axvline(start + 0.5, color=LINE, linewidth=1)
                if stage:
                    place = (start + 0.5, 1.02)
                    axes.text(
                        *place,
                        stage,
                        transform=axes.get_xaxis_transform(),
                        color=MUTED,
                        fontsize=8.5,
                    )
            axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
            axes.set_xlabel("epoch", color=MUTED, fontsize=9)
            axes.tick_params(colors=MUTED, labelsize=8.5, length=0)
            axes.xaxis.get_major_locator().set_params(integer=True)
            # The names of the stages begin half an epoch before the first.
            axes.set_xlim(0.5, epochs + 0.5)
            axes.grid(axis="y", color=LINE, linewidth=0.7)
            for spine in axes.spines.values():
                spine.set_visible(False)

    return _svg("training", draw, 2.9)


def _panels(history: Sequence[Curve]) -> list[list[str]]:
    """Group the curves that can share an axis: losses, shares, and each other one separately."""
    ranges: dict[str, list[float]] = {}
    for curve in history:
        ranges.setdefault(curve.name, []).extend(filter(math.isfinite, curve.values))
    groups: dict[str, list[str]] = {}
    for name, values in ranges.items():
        base = name.removeprefix("val_")
        if "loss" in name:
            key = "loss"
        elif values and min(values) >= 0 and max(values) <= 1 and max(values) > 0.05:
            key = "share"
        else:
            key = base
        groups.setdefault(key, []).append(name)
    return list(groups.values())[:3]


def _lengths(history: Sequence[Curve]) -> dict[str, int]:
    """Return the number of epochs of each stage."""
    lengths: dict[str, int] = {}
    for curve in history:
        lengths[curve.stage] = max(lengths.get(curve.stage, 0), len(curve.values))
    return lengths


def _starts(history: Sequence[Curve]) -> dict[str, int]:
    """Return the first epoch of each stage."""
    starts, total = {}, 0
    for stage, length in _lengths(history).items():
        starts[stage] = total
        total += length
    return starts


def _bare(axes: "Axes", title: str) -> None:
    axes.set_title(title, loc="left", color=MUTED, fontsize=9.5, pad=6)
    axes.set_xticks([])
    axes.tick_params(length=0, labelcolor=INK, labelsize=9.5)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _svg(name: str, draw: Callable[["Figure"], Any], height_inches: float) -> str:
    """Return a figure as SVG for an HTML page; the same on every call."""
    if not available():
        return ""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {
        "font.family": ["DejaVu Sans"],  # included in matplotlib
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "text.parse_math": False,  # a dollar sign in a name is literal
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The page renders the text, with fonts that have more glyphs than this one; figures that no
        # axis can hold, as of a damaged file, are in the table.
        for message in ("Glyph .* missing from (current )?font", "constrained_layout not applied"):
            warnings.filterwarnings("ignore", message=message)
        warnings.filterwarnings("ignore", message="(overflow|invalid value) encountered")
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        figure.patch.set_alpha(0)
        FigureCanvasSVG(figure)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_alpha(0)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return _for_page(buffer.getvalue())


def _for_page(svg: str) -> str:
    """Adapt an SVG file to a page: variables for colors, the page's font, no clashing ids."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    svg = re.sub(r"font: ([\d.]+)px '?DejaVu Sans'?", r"font-size: \1px", svg)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
    svg = re.sub(
        r' id="([^"]*)"', lambda found: found.group(0) if found.group(1) in used else "", svg
    )
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg)
    )
