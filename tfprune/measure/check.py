"""A stored file measured again and checked against limits, for pipelines that retrain."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from tfprune.errors import OptionError
from tfprune.measure.comparison import versions
from tfprune.measure.devices.registry import device_of
from tfprune.measure.fidelity import Choice, Fidelity, guessed, measures_of, score_files
from tfprune.measure.latency import Interleaved, check_counts, interleaved
from tfprune.measure.size import Sizes, sizes
from tfprune.measure.sources import Source, named_in_errors
from tfprune.report.data import UNCHANGED, Conditions, GateResult, Measure
from tfprune.report.gates import QUALITY, RELATIVE, Gate, check_direction, quality, verdict_of
from tfprune.runtime.artifact import sha256
from tfprune.runtime.litert import read_file
from tfprune.task.task import Task
from tfprune.utils.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True)
class Limits(Gate):
    """A gate for a stored file, and the measurements it needs."""

    def over(self, other: "Limits") -> "Limits":
        """Return these limits, and those of `other` where these are None."""
        mine, theirs = asdict(self), asdict(other)
        return Limits(
            **{name: theirs[name] if value is None else value for name, value in mine.items()}
        )

    @property
    def any(self) -> bool:
        """Return whether there is any limit."""
        return any(value is not None for value in vars(self).values())

    @property
    def need_data(self) -> bool:
        """Return whether the file has to be scored."""
        return any(getattr(self, name) is not None for name in QUALITY)

    @property
    def need_time(self) -> bool:
        """Return whether the file has to be timed."""
        return self.max_latency_ms is not None or self.max_latency_ratio is not None

    @property
    def need_baseline(self) -> tuple[str, ...]:
        """Return the names of limits that compare with a baseline file."""
        return tuple(name for name in RELATIVE if getattr(self, name) is not None)


@dataclass(frozen=True)
class Verdict:
    """The result of checking a stored file.

    Attributes:
        name: The file.
        gates: One for each limit, and `unchanged` if its hash was recorded.
        sha256: Hash of the file.
        raw_bytes: Its size.
        gzip_bytes: Its size under gzip.
        samples: Number of samples it was scored on.
        accuracy: Its score, if it was scored and the metric is accuracy.
        score: Its score, if it was scored.
        metric: The name of the score.
        median_ms: Its latency, if it was timed.
        conditions: Where and how it was timed.
        versions: Versions that the figures depend on.
        notes: Remarks on the data.
    """

    name: str
    gates: tuple[GateResult, ...]
    sha256: str
    raw_bytes: int
    gzip_bytes: int
    samples: int
    accuracy: float | None
    median_ms: float | None
    conditions: Conditions | None
    versions: dict[str, str]
    notes: tuple[str, ...] = ()
    score: float | None = None
    metric: str = "accuracy"

    @property
    def passed(self) -> bool:
        """Return whether every gate passed."""
        return all(gate.passed for gate in self.gates)

    def to_json(self) -> str:
        """Return everything as JSON text."""
        return json.dumps({"passed": self.passed, **asdict(self)}, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.gates), *(f"note: {note}" for note in self.notes)])


def check_file(
    source: Source,
    limits: Limits,
    *,
    name: str,
    data: Any = None,
    baseline: Source | None = None,
    recorded: str | None = None,
    task: Choice = guessed,
    device: str = "host",
    threads: int = 1,
    runs: int = 50,
    progress: Progress = SILENT,
) -> Verdict:
    """Check a file against limits; measure only what they need.

    `baseline` is the file that some limits refer to, measured in the same run. `recorded` is the
    SHA-256 of the file when it was stored; a different one misses the gate `unchanged`.

    Raises:
        OptionError: A limit lacks the data or the baseline it needs, or there is no limit.
        ArtifactError: A file is missing or damaged, or the runtime cannot run it.
        DataError: The data does not fit.
    """
    check_counts(threads=threads, runs=runs)
    device_of(device)
    if isinstance(task, Task):
        check_direction(vars(limits), measures_of(task)[0])
    if not limits.any:
        known = ", ".join(field.name for field in fields(Limits))
        raise OptionError(f"{name}: no limit is given; give one of {known}")
    if limits.need_baseline and baseline is None:
        raise OptionError(
            f"{name}: {limits.need_baseline[0]} compares with a baseline file; give baseline="
        )
    if limits.need_data and data is None:
        raise OptionError(f"{name}: a limit of {_wanted(task)} needs labeled data; give data=")
    with named_in_errors(name):
        files = [read_file(source)]
    if baseline is not None:
        with named_in_errors("baseline"):
            files.insert(0, read_file(baseline))
    names = [name] if baseline is None else ["baseline", name]
    weights = [sizes(file) for file in files]
    scores: tuple[Fidelity, ...] = ()
    if limits.need_data:
        scores = score_files(files, data, names=names, task=task, progress=progress)
    timed = None
    if limits.need_time:
        timed = interleaved(
            files, names=names, device=device, threads=threads, runs=runs, progress=progress
        )
    real = timed is not None and not timed.conditions.fake
    digest = sha256(files[-1])
    measure = measures_of(scores[0].task)[0] if scores else None
    if measure is not None:
        check_direction(vars(limits), measure)
    found = list(_figures(limits, weights, scores, timed if real else None))
    gates = [verdict_of(key, name, limit, value) for key, limit, value in found]
    if recorded is not None:
        same = float(digest == recorded)
        gates.insert(0, GateResult(UNCHANGED, name, 1.0, same, bool(same)))
    return Verdict(
        name=name,
        gates=tuple(gates),
        sha256=digest,
        raw_bytes=weights[-1].raw_bytes,
        gzip_bytes=weights[-1].gzip_bytes,
        samples=scores[-1].samples if scores else 0,
        accuracy=scores[-1].score if measure and measure.name == "accuracy" else None,
        score=scores[-1].score if scores else None,
        metric=measure.name if measure else _wanted(task),
        median_ms=timed.latencies[-1].median_ms if timed is not None and real else None,
        conditions=timed.conditions if timed is not None else None,
        versions=versions(),
        notes=tuple(note for score in scores for note in score.notes),
    )


def _wanted(task: Choice) -> str:
    return measures_of(task)[0].name if isinstance(task, Task) else "accuracy"


def _figures(
    limits: Limits, weights: list[Sizes], scores: tuple[Fidelity, ...], timed: Interleaved | None
) -> Iterator[tuple[str, float, float | None]]:
    """Yield each limit that is set with the measured value."""
    measure = measures_of(scores[0].task)[0] if scores else Measure("accuracy")
    base = scores[0].score if len(scores) > 1 else None
    values: dict[str, float | None] = {
        **quality(measure, scores[-1].score if scores else None, base),
        "max_bytes": weights[-1].raw_bytes,
        "max_gzip_bytes": weights[-1].gzip_bytes,
        "min_compression": weights[0].gzip_bytes / weights[-1].gzip_bytes,
        "max_latency_ms": timed.latencies[-1].median_ms if timed else None,
        "max_latency_ratio": timed.ratios[0].median if timed and timed.ratios else None,
    }
    for name, limit in vars(limits).items():
        if limit is not None:
            yield name, limit, values[name]
