"""What a report holds: models beside their baseline, and under what conditions they were measured.

Everything here is plain data. It knows nothing of how a figure was found, and a figure that was not
found is None, which every rendering shows as a dash.
"""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tfprune.errors import ArtefactError
from tfprune.files import parse_json, read_bytes
from tfprune.records import record
from tfprune.report.gates import Gate, GateResult, check_gate, judge

Cell = str | int | float | None


@dataclass(frozen=True)
class Ratio:
    """How many times as long as the baseline, from pairs that ran one right after the other.

    Attributes:
        median: The median of the ratios of the pairs; 0.5 is half the time.
        q1: Their lower quartile.
        q3: Their upper quartile.
        pairs: How many pairs there were.
    """

    median: float
    q1: float
    q3: float
    pairs: int


@dataclass(frozen=True)
class Conditions:
    """Where and how latency was measured; a figure means nothing without it.

    Attributes:
        device: The name that was asked for: `host`, `adb:SERIAL`.
        machine: The processor, or the phone.
        system: The operating system.
        runtime: The runtime that ran the files, with its version.
        threads: Threads of the runtime.
        runs: Samples of each file.
        clock: What was read: thread CPU time or wall time.
        noise: The baseline against itself in the same run: ratios inside of it mean nothing.
        fake: True when a stand-in played the device. Such figures are never printed.
    """

    device: str
    machine: str
    system: str
    runtime: str
    threads: int
    runs: int
    clock: str
    noise: Ratio
    fake: bool = False


@dataclass(frozen=True)
class Kernel:
    """One weight tensor of a model and its zeros."""

    name: str
    shape: tuple[int, ...]
    zeros: int

    @property
    def size(self) -> int:
        """Return how many weights it has."""
        size = 1
        for side in self.shape:
            size *= side
        return size

    @property
    def sparsity(self) -> float:
        """Return its fraction of zeros."""
        return self.zeros / self.size if self.size else 0.0


@dataclass(frozen=True)
class Row:
    """Everything that was measured of one file.

    Attributes:
        name: What the report calls it.
        scheme: How its weights are stored: `float32`, `int8`.
        sha256: The hash of the file.
        raw_bytes: As it lies on disk.
        gzip_bytes: As it is downloaded.
        zstd_bytes: As it is downloaded where zstd is used.
        entropy_bytes: Order-0 entropy of its weights.
        score: The metric on the data, of the file itself.
        agreement: The share of samples with the same top class as the baseline file.
        max_abs_error: The largest difference of its outputs from those of the baseline file.
        mean_abs_error: The mean of these differences.
        weights: Weights that the file stores, after what the converter folded.
        weight_zeros: How many of them are zero.
        params: Parameters of the Keras model, where one was given.
        zeros: How many of them are zero.
        macs: Multiply-accumulates of one call of the Keras model.
        median_ms: Median latency.
        p90_ms: The time that nine of ten runs kept to.
        q1_ms: The lower quartile.
        q3_ms: The upper quartile.
        min_ms: The fastest run.
        latency_ratio: Its time over that of the baseline.
        peak_bytes: What loading it and running it once adds to a fresh process at its peak.
        kernels: Zeros by weight tensor, where a Keras model was given.
    """

    name: str
    raw_bytes: int
    gzip_bytes: int
    scheme: str = ""
    sha256: str = ""
    zstd_bytes: int | None = None
    entropy_bytes: int | None = None
    score: float | None = None
    agreement: float | None = None
    max_abs_error: float | None = None
    mean_abs_error: float | None = None
    weights: int | None = None
    weight_zeros: int | None = None
    params: int | None = None
    zeros: int | None = None
    macs: int | None = None
    median_ms: float | None = None
    p90_ms: float | None = None
    q1_ms: float | None = None
    q3_ms: float | None = None
    min_ms: float | None = None
    latency_ratio: Ratio | None = None
    peak_bytes: int | None = None
    kernels: tuple[Kernel, ...] = ()

    @property
    def sparsity(self) -> float | None:
        """Return the fraction of zeros among the weights that the file stores."""
        if self.weight_zeros is None or not self.weights:
            return None
        return self.weight_zeros / self.weights


@dataclass(frozen=True)
class Section:
    """A table or a paragraph that somebody adds to a report."""

    title: str
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()


@dataclass(frozen=True)
class Stage:
    """One stage of a run and how long it took."""

    name: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Curve:
    """One figure of the training, epoch by epoch, in one stage of the run."""

    name: str
    values: tuple[float, ...]
    stage: str = ""


@dataclass(frozen=True)
class Report:
    """Models beside their baseline, all measured in one run.

    Attributes:
        title: The heading.
        rows: The baseline first, then the candidates.
        metric: What `Row.score` is: `accuracy`, or the name of the user's function.
        samples: How many samples of the data it was taken on.
        conditions: Where and how latency was measured; None when it was not.
        gates: What was promised and whether it was kept.
        stages: The stages of the run that made the files.
        history: Curves of the training.
        sections: Further tables and paragraphs, in order.
        notes: Lines that a reader must not miss: what was skipped, and why.
        recipe: The text of the recipe that was run.
        versions: Packages and their versions.
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

    @property
    def baseline(self) -> Row:
        """Return the row that the others are compared with."""
        return self.rows[0]

    @property
    def candidates(self) -> tuple[Row, ...]:
        """Return the rows that are compared with the baseline."""
        return self.rows[1:]

    @property
    def passed(self) -> bool:
        """Return whether every gate was kept; True when there is none."""
        return all(gate.passed for gate in self.gates)

    def row(self, name: str) -> Row:
        """Return the row of a name; KeyError lists the names there are."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no row {name!r}; there are: {', '.join(row.name for row in self.rows)}")

    def with_gate(self, gate: Gate) -> "Report":
        """Return this report with the verdict of `gate` on every candidate."""
        check_gate(gate)
        return dataclasses.replace(self, gates=self.gates + judge(self, gate))

    def with_run(
        self,
        *,
        stages: Sequence[Stage] = (),
        history: Sequence[Curve] = (),
        sections: Sequence[Section] = (),
        notes: Sequence[str] = (),
        recipe: str | None = None,
    ) -> "Report":
        """Return this report with what only the run that made the files can tell."""
        return dataclasses.replace(
            self,
            stages=self.stages + tuple(stages),
            history=self.history + tuple(history),
            sections=self.sections + tuple(sections),
            notes=self.notes + tuple(notes),
            recipe=self.recipe if recipe is None else recipe,
        )

    def to_json(self) -> str:
        """Return everything as JSON text, which `from_json` reads back.

        A curve may hold what JSON cannot: a loss that is not a number is null there.
        """
        data = dataclasses.asdict(self)
        for curve in data["history"]:
            curve["values"] = [value if math.isfinite(value) else None for value in curve["values"]]
        return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Report":
        """Return the report that `to_json` wrote.

        Raises:
            ArtefactError: The text is not such a report.
        """
        try:
            report = record(Report, parse_json(text))
            _check_sound(report)
        except ValueError as error:
            raise ArtefactError(
                f"not a report that this version of tfprune wrote: {error}"
            ) from None
        return report

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Report":
        """Return the report of a `.json` file.

        Raises:
            ArtefactError: It is missing, or no such report.
        """
        content = read_bytes(path, "run the recipe that makes it first")
        try:
            return cls.from_json(content)
        except ArtefactError as error:
            raise ArtefactError(f"{path}: {error}") from None

    def to_text(self) -> str:
        """Return tables for a terminal."""
        from tfprune.report.text import to_text

        return to_text(self)

    def to_markdown(self) -> str:
        """Return Markdown, for a README or a pull request."""
        from tfprune.report.text import to_markdown

        return to_markdown(self)

    def to_html(self) -> str:
        """Return one self-contained HTML page with plots, for light and dark screens."""
        from tfprune.report.html import to_html

        return to_html(self)

    def __str__(self) -> str:
        return self.to_text()


def _check_sound(report: Report) -> None:
    """Raise ValueError for a report that cannot be shown, of whatever types its fields are."""
    if not report.rows:
        raise ValueError("it has no rows")
    for row in report.rows:
        if min(row.raw_bytes, row.gzip_bytes) < 1:
            raise ValueError(f"the file {row.name!r} weighs nothing")
        if any(side < 0 for kernel in row.kernels for side in kernel.shape):
            raise ValueError(f"a shape of {row.name!r} has a side below 0")
    for section in report.sections:
        if any(len(row) != len(section.columns) for row in section.rows):
            raise ValueError(f"a row of {section.title!r} is not as long as its head")
