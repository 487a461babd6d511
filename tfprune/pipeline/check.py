"""Check of a stored artifact: a run folder, or a file with its report next to it."""

import os
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.data.npz import pairs_in, read_npz
from tfprune.errors import ArtifactError, DataError, OptionError
from tfprune.measure.check import Limits, Verdict, check_file
from tfprune.measure.fidelity import guessed
from tfprune.pipeline.datasets import load_data
from tfprune.pipeline.folder import RECIPE, TEST_SHA256, facts_of
from tfprune.recipe import Recipe, load_recipe, parse_recipe
from tfprune.recipe.tables import MeasureTable
from tfprune.recipe.task_table import task_of
from tfprune.report.gates import Gate, check_gate
from tfprune.report.report import Report
from tfprune.runtime.artifact import report_path
from tfprune.storage.files import parse_json, read_bytes
from tfprune.storage.records import record
from tfprune.task.task import Task, as_task
from tfprune.utils.progress import SILENT, Progress


@dataclass(frozen=True)
class _Stored:
    """The stored file, and what was recorded when it was made."""

    file: Path
    baseline: Path | None
    recorded: str
    limits: Limits
    recipe: Recipe | None
    task: Task | None = None


@dataclass(frozen=True)
class _Recorded:
    """The recorded hash and limits of a file."""

    sha256: str
    raw_bytes: int
    gzip_bytes: int


def check(
    path: str | os.PathLike[str],
    *,
    data: Any = None,
    task: Task | str | None = None,
    limits: Gate | None = None,
    baseline: str | os.PathLike[str] | None = None,
    device: str | None = None,
    threads: int | None = None,
    runs: int | None = None,
    progress: Progress = SILENT,
) -> Verdict:
    """Measure a stored artifact again, and check its gates.

    Args:
        path: A run folder, with the gates of its recipe; or a `.tflite` file with its report next
            to it, which may not be larger than when it was stored.
        data: A pair (x, y), a dataset of batches, or the path of an `.npz` with x and y (or x_test
            and y_test). None takes the test set of the run's recipe.
        task: A `Task` or its name; by default that of the run, or for a file, what the labels show.
        limits: Further gates, such as Gate(max_bytes=30_000), which override the stored ones.
        baseline: The file that some gates refer to; by default `baseline.tflite` of the run folder.
        device: The device that times it; by default that of the recipe, or `host`.
        threads: Threads of the runtime; likewise.
        runs: Number of timed pairs; likewise.
        progress: Receives progress reports.

    Raises:
        OptionError: There is no gate, or a gate lacks data or a baseline.
        ArtifactError: The stored file is missing or damaged.
        DataError: The data does not fit the file.

    Example:
        check("runs/quickstart", data="this_week.npz").passed
    """
    if limits is None:
        limits = Limits()
    check_gate(limits)
    if limits.max_accuracy_drop is not None and limits.max_accuracy_drop >= 1:
        raise OptionError(
            "max_accuracy_drop: expected a share below 1, such as 0.01 for one point. "
            f"Received {limits.max_accuracy_drop:g}"
        )
    stored = _find(Path(path))
    wanted = Limits(**asdict(limits)).over(stored.limits)
    timing = {"device": device, "threads": threads, "runs": runs}
    idle = [option for option, value in timing.items() if value is not None]
    if idle and not wanted.need_time:
        raise OptionError(
            f"{idle[0]}: nothing is timed, since there is no gate on latency; set max_latency_ms "
            "or max_latency_ratio, or remove this option"
        )
    known = as_task(task) if task is not None else stored.task
    table = (stored.recipe.measure if stored.recipe else None) or MeasureTable()
    scored, notes = _data(data, stored, known) if wanted.need_data else (None, ())
    verdict = check_file(
        stored.file,
        wanted,
        name=stored.file.name,
        data=scored,
        task=known or guessed,
        baseline=_baseline(baseline, stored, wanted),
        recorded=stored.recorded,
        device=table.device if device is None else device,
        threads=table.threads if threads is None else threads,
        runs=table.runs if runs is None else runs,
        progress=progress,
    )
    return replace(verdict, notes=(*notes, *verdict.notes))


def _find(path: Path) -> _Stored:
    if not path.is_dir():
        made = _recorded(report_path(path))
        kept = Limits(max_bytes=made.raw_bytes, max_gzip_bytes=made.gzip_bytes)
        return _Stored(path, None, made.sha256, kept, None)
    file = path / "model.tflite"
    made = _recorded(report_path(file))
    recipe = load_recipe(path / RECIPE) if (path / RECIPE).exists() else None
    limits = Limits(**asdict(recipe.gate)) if recipe and recipe.gate else Limits()
    task = _task(path / "report.json")
    return _Stored(file, path / "baseline.tflite", made.sha256, limits, recipe, task)


def _task(path: Path) -> Task | None:
    """Return the task of a run; None if it is not in its report."""
    text = Report.load(path).task if path.exists() else ""
    table = parse_recipe(tomllib.loads(text), name=str(path)).task if text else None
    return task_of(table) if table is not None else None


def _recorded(path: Path) -> _Recorded:
    """Return the recorded hash and limits from the report next to a file."""
    if not path.exists():
        raise ArtifactError(
            f"{path}: no such file; give a run folder, or a file with its report next to it"
        )
    content = read_bytes(path, "convert the model again")
    names = [field.name for field in fields(_Recorded)]
    try:
        found = parse_json(content)
        if not isinstance(found, dict):
            raise ValueError("it is not a table")
        made = record(_Recorded, {name: found[name] for name in names if name in found})
        if min(made.raw_bytes, made.gzip_bytes) < 0:
            raise ValueError("a negative size")
    except ValueError as error:
        raise ArtifactError(f"{path}: not a conversion report: {error}") from None
    return made


def _baseline(given: str | os.PathLike[str] | None, stored: _Stored, limits: Limits) -> Path | None:
    if given is not None:
        return Path(given)
    return stored.baseline if limits.need_baseline else None


def _data(given: Any, stored: _Stored, task: Task | None) -> tuple[Any, tuple[str, ...]]:
    """Return the data to score on, and notes on it."""
    table = stored.recipe.data if stored.recipe else None
    if isinstance(given, str | os.PathLike):
        x, y = _pair(Path(given))
        # The model was trained on data with the recipe's scale.
        scale = table.scale if table else 1.0
        return ((x if scale == 1.0 else x.astype(np.float32) * np.float32(scale)), y), ()
    if given is not None:
        return given, ()
    if table is None:
        raise OptionError("a gate of accuracy needs labeled data; give an .npz with x and y")
    data = load_data(table, task)
    before = facts_of(stored.file.parent, "measure").get(TEST_SHA256)
    if before in (None, data.test_fingerprint()):
        return data.test.given, ()
    changed = f"the test set of {data.name} is not that of the run: it has changed since"
    return data.test.given, (changed,)


def _pair(path: Path) -> tuple[np.ndarray, np.ndarray]:
    arrays = read_npz(str(path), str(path))
    for x, y in pairs_in(arrays, "test"):
        if y is not None:
            return x, y
    raise DataError(f"{path}: expected arrays x and y. Received {', '.join(arrays) or 'none'}")
