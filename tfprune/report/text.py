"""A report as plain text and as Markdown."""

import re
import textwrap
from typing import TYPE_CHECKING

from tfprune.report.figures import (
    cell,
    conditions_text,
    figures,
    samples_text,
    seconds,
    versions_text,
)
from tfprune.utils.text_table import Markup, escaped, grid, markdown_table

if TYPE_CHECKING:
    from tfprune.report.report import Report


MODELS_PER_TABLE = 4
LINE_WIDTH = 100


def to_text(report: "Report") -> str:
    """Return a report for a terminal: a row for each figure, a column for each file."""
    parts = [report.title, "=" * len(report.title), ""]
    for header, rows in _tables(report):
        parts += [grid(header, rows), ""]
    parts += [textwrap.fill(line, LINE_WIDTH) for line in _remarks(report)]
    if report.gates:
        parts += ["", "Gates", *(f"  {gate}" for gate in report.gates)]
    if report.stages:
        parts += ["", grid(("stage", "time", ""), _stages(report))]
    for section in report.sections:
        parts += ["", section.title, *([section.text] if section.text else [])]
        if section.rows:
            parts.append(grid(section.columns, [tuple(map(cell, row)) for row in section.rows]))
    if report.notes:
        parts += ["", "Notes", *(f"  - {note}" for note in report.notes)]
    return "\n".join(parts) + "\n"


def to_markdown(report: "Report") -> str:
    """Return a report as Markdown, with names and notes escaped."""
    parts = [f"# {escaped(report.title)}", ""]
    for header, rows in _tables(report):
        parts += [markdown_table(header, rows), ""]
    parts += ["\n\n".join(map(escaped, _remarks(report))), ""]
    if report.gates:
        rows = [
            (
                gate.name,
                gate.row,
                gate.allowed,
                gate.found,
                "passed" if gate.passed else Markup("**missed**"),
            )
            for gate in report.gates
        ]
        header = ("gate", "file", "limit", "found", "verdict")
        parts += ["## Gates", "", markdown_table(header, rows), ""]
    if report.stages:
        header = ("stage", "time", "")
        parts += ["## Stages", "", markdown_table(header, _stages(report)), ""]
    for section in report.sections:
        parts += [f"## {escaped(section.title)}", ""]
        if section.text:
            parts += [escaped(section.text), ""]
        if section.rows:
            rows = [tuple(map(cell, row)) for row in section.rows]
            parts += [markdown_table(section.columns, rows), ""]
    if report.notes:
        parts += ["## Notes", "", *(f"- {escaped(note)}" for note in report.notes), ""]
    if report.recipe:
        fence = _fence(report.recipe)
        parts += ["## Recipe", "", f"{fence}toml", report.recipe.strip(), fence, ""]
    if report.versions:
        parts += [f"Versions: {escaped(versions_text(report))}.", ""]
    return "\n".join(parts)


def _fence(text: str) -> str:
    """Return a fence for a code block with this text: more backticks than are in it."""
    return "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))


def _tables(report: "Report") -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Split many files into tables of a few, each with the baseline in its first column."""
    candidates = range(1, len(report.rows))
    groups = [
        (0, *candidates[start : start + MODELS_PER_TABLE])
        for start in range(0, max(len(candidates), 1), MODELS_PER_TABLE)
    ]
    return [
        (
            ("", *(report.rows[index].name for index in group)),
            [
                (figure.label, *(figure.cells[index] for index in group))
                for figure in figures(report)
            ],
        )
        for group in groups
    ]


def _remarks(report: "Report") -> list[str]:
    return [line for line in (samples_text(report), conditions_text(report)) if line]


def _stages(report: "Report") -> list[tuple[str, str, str]]:
    return [(stage.name, seconds(stage.seconds), stage.detail) for stage in report.stages]
