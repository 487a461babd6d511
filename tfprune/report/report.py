"""The report of a comparison, and its renderings."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tfprune.errors import ArtifactError
from tfprune.report.data import Conditions, Curve, GateResult, Measure, Row, Section, Stage
from tfprune.report.gates import Gate, check_gate, judge
from tfprune.report.html import to_html
from tfprune.report.text import to_markdown, to_text
from tfprune.storage.files import parse_json, read_bytes
from tfprune.storage.records import record


@dataclass(frozen=True)
class Report:
    """Models compared with their baseline, all measured in one run.

    Attributes:
        title: The heading.
        rows: The baseline first, then the candidates.
        metric: The name of `Row.score`: `accuracy`, `MAE`, or the name of the user's function.
        samples: Number of samples of the metric.
        conditions: Where and how latency was measured; None when it was not.
        gates: The verdicts of the gates.
        stages: The stages of the run that made the files.
        history: Training curves.
        sections: Further tables and paragraphs, in order.
        notes: Important remarks, such as what was skipped, and why.
        recipe: The text of the recipe of the run.
        versions: Packages and their versions.
        measures: The metrics of the task; the first is that of `Row.score` and of the gates.
        task: The task as a table [task] of a recipe, in TOML; "" if it was not of a run.
    """

    title: str
    rows: tuple[Row, ...]
    metric: str = "accuracy"
    samples: int = 0
    conditions: Conditions | None = None
    gates: tuple[GateResult, ...] = ()
    stages: tuple[Stage, ...] = ()
    history: tuple[Curve, ...] = ()
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()
    recipe: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    measures: tuple[Measure, ...] = ()
    task: str = ""

    @property
    def all_measures(self) -> tuple[Measure, ...]:
        """Return the metrics of the task; reports of 0.1.0 have the name of one."""
        return self.measures or (Measure(self.metric),)

    @property
    def measure(self) -> Measure:
        """Return the metric of `Row.score` and of the gates."""
        return self.all_measures[0]

    @property
    def baseline(self) -> Row:
        """Return the row of the baseline."""
        return self.rows[0]

    @property
    def candidates(self) -> tuple[Row, ...]:
        """Return the rows of the candidates."""
        return self.rows[1:]

    @property
    def passed(self) -> bool:
        """Return whether every gate passed; True when there is none."""
        return all(gate.passed for gate in self.gates)

    def row(self, name: str) -> Row:
        """Return the row with a name; KeyError lists the known names."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no row {name!r}. Known: {', '.join(row.name for row in self.rows)}")

    def with_gate(self, gate: Gate) -> "Report":
        """Return this report with the verdict of `gate` on every candidate."""
        check_gate(gate)
        return dataclasses.replace(
            self,
            gates=self.gates + judge(self.rows, self.conditions, gate, self.measure),
        )

    def with_run(
        self,
        *,
        stages: Sequence[Stage] = (),
        history: Sequence[Curve] = (),
        sections: Sequence[Section] = (),
        notes: Sequence[str] = (),
        recipe: str | None = None,
        task: str = "",
    ) -> "Report":
        """Return this report with the data of the run that made the files."""
        return dataclasses.replace(
            self,
            stages=self.stages + tuple(stages),
            history=self.history + tuple(history),
            sections=self.sections + tuple(sections),
            notes=self.notes + tuple(notes),
            recipe=self.recipe if recipe is None else recipe,
            task=task or self.task,
        )

    def to_json(self) -> str:
        """Return everything as JSON text, which `from_json` reads back.

        A loss that is not finite is null, since JSON has no such number.
        """
        data = dataclasses.asdict(self)
        for curve in data["history"]:
            curve["values"] = [value if math.isfinite(value) else None for value in curve["values"]]
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Report":
        """Return the report that `to_json` wrote.

        Raises:
            ArtifactError: The text is not such a report.
        """
        try:
            report = record(Report, parse_json(text))
            _check_sound(report)
        except ValueError as error:
            raise ArtifactError(f"not a report of this version of tfprune: {error}") from None
        return report

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Report":
        """Return the report of a `.json` file.

        Raises:
            ArtifactError: It is missing, or not such a report.
        """
        content = read_bytes(path, "run the recipe that makes it first")
        try:
            return cls.from_json(content)
        except ArtifactError as error:
            raise ArtifactError(f"{path}: {error}") from None

    def to_text(self) -> str:
        """Return tables for a terminal."""
        return to_text(self)

    def to_markdown(self) -> str:
        """Return Markdown, for a README or a pull request."""
        return to_markdown(self)

    def to_html(self) -> str:
        """Return one self-contained HTML page with plots, for light and dark screens."""
        return to_html(self)

    def __str__(self) -> str:
        return self.to_text()


def _check_sound(report: Report) -> None:
    """Raise ValueError for a report that cannot be shown, even if its types are correct."""
    if not report.rows:
        raise ValueError("it has no rows")
    for row in report.rows:
        if min(row.raw_bytes, row.gzip_bytes) < 1:
            raise ValueError(f"the file {row.name!r} has size 0")
        if any(side < 0 for kernel in row.kernels for side in kernel.shape):
            raise ValueError(f"a shape of {row.name!r} has a negative size")
    for section in report.sections:
        if any(len(row) != len(section.columns) for row in section.rows):
            raise ValueError(f"a row of {section.title!r} differs in length from its header")
