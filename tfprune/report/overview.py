"""Several reports on one page: a row for each file, beside its own baseline."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from tfprune.report import plots
from tfprune.report.figures import NONE, figures
from tfprune.report.html import figure_of, page, table_of
from tfprune.report.report import Report
from tfprune.utils.text_table import grid, markdown_table

COLUMNS = ("run", "file", "score", "file, gzip", "latency ratio", "zeros in the file", "gates")


@dataclass(frozen=True)
class Overview:
    """Reports by the name of their run.

    Example:
        Overview({"a": Report.load("runs/a/report.json")}).to_text()
    """

    reports: Mapping[str, Report]

    def __str__(self) -> str:
        return self.to_text()

    @property
    def rows(self) -> list[tuple[str, ...]]:
        """Return a row for each candidate, in the order of `COLUMNS`."""
        return [row for name, report in self.reports.items() for row in _rows(name, report)]

    def to_text(self) -> str:
        """Return the table for a terminal."""
        return grid(COLUMNS, self.rows)

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        return f"# Runs\n\n{markdown_table(COLUMNS, self.rows)}\n"

    def to_html(self, beside: str | os.PathLike[str] | None = None) -> str:
        """Return a page with a plot and the table.

        Args:
            beside: The folder that the page is written to, for links to the pages of the runs.
        """
        parts = [
            "<header><h1>Runs</h1><p>Each file beside its own baseline.</p></header>",
            figure_of(plots.trade_off(self.points), "Size and score next to the baseline"),
            f"<section><h2>Files</h2>{table_of(COLUMNS, self.rows, self._links(beside))}</section>",
        ]
        return page("Runs", parts)

    @property
    def points(self) -> list[tuple[str, float, float]]:
        """Return for each scored candidate its run, times smaller, and change of the score."""
        return [
            (name, report.baseline.gzip_bytes / row.gzip_bytes, row.score - report.baseline.score)
            for name, report in self.reports.items()
            for row in report.candidates
            if row.score is not None and report.baseline.score is not None
        ]

    def _links(self, beside: str | os.PathLike[str] | None) -> dict[str, str]:
        """Return the address of the page of each run, from a folder."""
        if beside is None:
            return {}
        pages = {name: os.path.join(name, "report.html") for name in self.reports}
        return {
            name: os.path.relpath(path, beside)
            for name, path in pages.items()
            if os.path.exists(path)
        }


def _rows(name: str, report: Report) -> list[tuple[str, ...]]:
    shown = {figure.label: figure.cells for figure in figures(report)}
    missed = sum(not gate.passed for gate in report.gates)
    gates = f"{missed} of {len(report.gates)} missed" if missed else f"{len(report.gates)} passed"
    found = []
    for index, row in enumerate(report.candidates, 1):
        cells = {label: cells[index] for label, cells in shown.items()}
        score = cells.get(report.metric, NONE)
        found.append(
            (
                name,
                f"{row.name}, {row.scheme}" if row.scheme else row.name,
                NONE if score == NONE else f"{report.metric} {score}",
                *(cells.get(label, NONE) for label in COLUMNS[3:-1]),
                gates if report.gates else NONE,
            )
        )
    return found
