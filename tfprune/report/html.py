"""A report as one self-contained HTML page, for light and dark screens."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from types import MappingProxyType
from typing import TYPE_CHECKING

from tfprune.report import plots
from tfprune.report.data import Cell, Row
from tfprune.report.figures import (
    NONE,
    bytes_text,
    cell,
    conditions_text,
    figures,
    percent,
    samples_text,
    seconds,
    versions_text,
)
from tfprune.report.style import STYLE

if TYPE_CHECKING:
    from tfprune.report.report import Report


def to_html(report: "Report") -> str:
    """Return a report as an HTML page."""
    return page(
        report.title,
        (
            _head(report),
            _tiles(report),
            figure_of(
                plots.comparison(report), "Metric, download and latency next to the baseline"
            ),
            _figures_table(report),
            _gates(report),
            *(_zeros(row) for row in report.candidates),
            _training(report),
            _stages(report),
            _sections(report),
            _notes([*report.notes, *([] if plots.available() else [plots.MISSING])]),
            _recipe(report),
            f"<footer>{escape(versions_text(report))}</footer>" if report.versions else "",
        ),
    )


def page(title: str, parts: Iterable[str]) -> str:
    """Return an HTML page of some parts; empty ones are left out."""
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _head(report: "Report") -> str:
    remarks = [line for line in (samples_text(report), conditions_text(report)) if line]
    lines = "".join(f"<p>{escape(line)}</p>" for line in remarks)
    badge = ""
    if report.gates:
        missed = sum(not gate.passed for gate in report.gates)
        kind, words = (
            ("bad", f"{missed} of {len(report.gates)} gates missed")
            if missed
            else ("good", f"all {len(report.gates)} gates passed")
        )
        badge = f'<span class="badge {kind}">{words}</span>'
    return f"<header><h1>{escape(report.title)} {badge}</h1>{lines}</header>"


def _tiles(report: "Report") -> str:
    """Return large tiles with the best candidate for each figure."""
    base, rows = report.baseline, report.candidates
    if not rows:
        return ""
    tiles = []
    small = min(rows, key=lambda row: row.gzip_bytes)
    tiles.append(
        (
            f"{base.gzip_bytes / small.gzip_bytes:.1f}×",
            "smaller download",
            f"{bytes_text(base.gzip_bytes)} → {bytes_text(small.gzip_bytes)}",
            small,
        )
    )
    scored = [row for row in rows if row.score is not None]
    if scored and base.score is not None:
        measure, dense = report.measure, base.score
        good = min(scored, key=lambda row: measure.loss(dense, row.score or 0.0))
        assert good.score is not None
        change = measure.text(good.score, dense).rpartition("(")[2].rstrip(")")
        value, label = measure.text(good.score), f"{report.metric}, {change}"
        tiles.append((value, label, f"baseline {measure.text(dense)}", good))
    timed = [row for row in rows if row.latency_ratio is not None]
    if timed and report.conditions is not None and not report.conditions.fake:
        fast = min(timed, key=lambda row: row.latency_ratio.median)  # type: ignore[union-attr]
        assert fast.latency_ratio is not None
        seen = fast.latency_ratio
        quartiles = f"quartiles {seen.q1:.2f}–{seen.q3:.2f}"
        tiles.append((f"{seen.median:.2f}×", "the baseline's latency", quartiles, fast))
    sparse = max(rows, key=lambda row: row.sparsity or 0.0)
    if sparse.sparsity:
        stored = f"of {sparse.weights:,} weights"
        tiles.append((percent(sparse.sparsity) or NONE, "zeros in the file", stored, sparse))
    cards = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span>'
        f"<small>{escape(detail)}</small>"
        + (f"<small>{escape(row.name)}</small>" if len(rows) > 1 else "")
        + "</div>"
        for value, label, detail, row in tiles
    )
    return f'<section class="tiles">{cards}</section>'


def figure_of(svg: str, label: str) -> str:
    """Return a plot as a figure; empty if there is none."""
    if not svg:
        return ""
    return f'<figure role="img" aria-label="{escape(label)}">{svg}</figure>'


def _figures_table(report: "Report") -> str:
    names = "".join(f"<th>{escape(row.name)}</th>" for row in report.rows)
    lines = []
    for figure in figures(report):
        cells = "".join(
            f'<td class="best">{escape(text)}</td>'
            if index in figure.best
            else f"<td>{escape(text)}</td>"
            for index, text in enumerate(figure.cells)
        )
        lines.append(f"<tr><th>{escape(figure.label)}</th>{cells}</tr>")
    return (
        '<section><h2>All figures</h2><div class="wide"><table class="numbers">'
        f"<thead><tr><th></th>{names}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        "</section>"
    )


def _gates(report: "Report") -> str:
    if not report.gates:
        return ""
    rows = "".join(
        f"<tr><th>{escape(gate.name)}</th><td>{escape(gate.row)}</td><td>{gate.allowed}</td>"
        f"<td>{gate.found}</td>"
        f'<td><span class="badge {"good" if gate.passed else "bad"}">'
        f"{'passed' if gate.passed else 'missed'}</span></td></tr>"
        for gate in report.gates
    )
    head = "<tr><th></th><th>file</th><th>limit</th><th>found</th><th></th></tr>"
    return (
        f'<section><h2>Gates</h2><div class="wide"><table class="numbers"><thead>{head}</thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _zeros(row: Row) -> str:
    svg = plots.sparsity(row)
    if not svg:
        return ""
    shown, there = len(plots.largest(row.kernels)), len(row.kernels)
    rest = f"<p>The {shown} largest of {there} weight tensors.</p>" if shown < there else ""
    title = f"Zeros by weight tensor: {escape(row.name)}"
    return f"<section><h2>{title}</h2>{rest}{figure_of(svg, title)}</section>"


def _training(report: "Report") -> str:
    svg = plots.training(report.history)
    if not svg:
        return ""
    return f"<section><h2>Training</h2>{figure_of(svg, 'Training curves')}</section>"


def _stages(report: "Report") -> str:
    if not report.stages:
        return ""
    longest = max(max(stage.seconds for stage in report.stages), 1e-9)
    rows = "".join(
        f"<tr><th>{escape(stage.name)}</th><td>{seconds(stage.seconds)}</td>"
        f'<td class="meter"><i style="width:{100 * stage.seconds / longest:.1f}%"></i></td>'
        f'<td class="text">{escape(stage.detail)}</td></tr>'
        for stage in report.stages
    )
    return f'<section><h2>Stages</h2><div class="wide"><table>{rows}</table></div></section>'


def _sections(report: "Report") -> str:
    parts = []
    for section in report.sections:
        text = f"<p>{escape(section.text)}</p>" if section.text else ""
        table = table_of(section.columns, section.rows) if section.rows else ""
        parts.append(f"<section><h2>{escape(section.title)}</h2>{text}{table}</section>")
    return "".join(parts)


def table_of(
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    links: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return a table; a cell whose text is in `links` is a link to that address."""

    def text(value: Cell) -> str:
        shown = escape(cell(value))
        address = links.get(shown)
        return f'<a href="{escape(address)}">{shown}</a>' if address else shown

    def line(row: Sequence[Cell]) -> str:
        kinds = ["text" if isinstance(value, str) else "number" for value in row]
        return "".join(
            f'<td class="{kind}">{text(value)}</td>' for kind, value in zip(kinds, row, strict=True)
        )

    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{line(row)}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>'


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<section class="notes"><h2>Notes</h2><ul>{items}</ul></section>'


def _recipe(report: "Report") -> str:
    if not report.recipe:
        return ""
    text = escape(report.recipe.strip())
    return f"<section><details><summary>Recipe</summary><pre>{text}</pre></details></section>"
