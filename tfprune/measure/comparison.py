"""Comparison of files with their baseline: all measurements in one run."""

import importlib.metadata
import platform
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tfprune
from tfprune.data.batches import BATCH_SIZE
from tfprune.errors import ModelError, OptionError
from tfprune.measure.counts import count_weights
from tfprune.measure.devices.registry import device_of
from tfprune.measure.fidelity import Fidelity, Metric, chosen_task, measures_of, score_files
from tfprune.measure.latency import Interleaved, check_counts, interleaved
from tfprune.measure.memory import peak_bytes
from tfprune.measure.size import sizes
from tfprune.measure.sources import Source, name_of, named_in_errors
from tfprune.report.data import Row
from tfprune.report.gates import Gate, check_direction, check_gate
from tfprune.report.report import Report
from tfprune.runtime.artifact import Artifact, sha256
from tfprune.runtime.registry import read_any
from tfprune.task.task import Task
from tfprune.utils.extras import installed
from tfprune.utils.progress import SILENT, Progress
from tfprune.utils.versions import version_of

Entry = Source | tuple[Source, Any]


@dataclass(frozen=True)
class _Subject:
    name: str
    source: Source
    model: Any = None


def compare(
    baseline: Entry | Mapping[str, Entry],
    candidates: Entry | Sequence[Entry] | Mapping[str, Entry],
    data: Any = None,
    *,
    metric: Metric | None = None,
    task: Task | str | None = None,
    output: str | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "host",
    threads: int = 1,
    runs: int = 50,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    gate: Gate | None = None,
    title: str = "Comparison",
    progress: Progress = SILENT,
) -> Report:
    """Measure candidates and their baseline in one run.

    Args:
        baseline: The dense file: an artifact, a path or bytes; a pair of a file and its Keras
            model, which adds parameters, zeros and multiply-accumulates; or a dict with one entry,
            whose key is its name in the report.
        candidates: One such file or pair, a list of them, or a dict from name to file or pair.
        data: (inputs, labels), or a dataset or another iterable of these, to score the files on;
            None skips metrics and agreement.
        metric: The name of a metric, or a function of the labels and outputs of all samples, where
            higher is better, such as a `keras.metrics.Metric`.
        task: A `Task` or its name, instead of `metric`. With neither, labels decide: accuracy for
            class numbers, MAE for numbers.
        output: The output to score, if the files have several.
        batch_size: Batch size, for arrays.
        device: The device that measures latency: a name in the registry of devices.
        threads: Threads of the runtime.
        runs: Number of timed pairs of each candidate and the baseline.
        input_shapes: Shapes by input name, for files with open sizes other than the batch.
        gate: Limits for each candidate.
        title: The heading of the report.
        progress: Receives progress reports.

    Raises:
        ArtifactError: A file is missing, not a `.tflite`, or the runtime cannot run it.
        DataError: The data is empty, has NaN, or does not fit a file.
        OptionError: An unknown device, metric or output, an invalid gate, or two candidates with
            the same name.

    Example:
        report = compare("dense.tflite", {"int8": "int8.tflite"}, (x, y))
        print(report)
    """
    if gate is not None:
        check_gate(gate)
    check_counts(threads=threads, runs=runs)
    device_of(device)
    chosen = chosen_task(task, metric)
    if gate is not None and isinstance(chosen, Task):
        check_direction(vars(gate), measures_of(chosen)[0])
    subjects = _different([*_subjects(baseline, "baseline"), *_subjects(candidates, None)])
    names = [subject.name for subject in subjects]
    files = [_read(subject) for subject in subjects]
    models = [_model_figures(subject) for subject in subjects]
    scores: Sequence[Fidelity] = ()
    if data is not None:
        scores = score_files(
            files,
            data,
            names=names,
            task=chosen,
            output=output,
            batch_size=batch_size,
            progress=progress,
        )
    timed = interleaved(
        files,
        names=names,
        device=device,
        threads=threads,
        runs=runs,
        input_shapes=input_shapes,
        progress=progress,
    )
    rows = []
    with progress.task("sizes and memory", len(files)) as step:
        for index, (subject, content) in enumerate(zip(subjects, files, strict=True)):
            figures = _file_figures(content) | models[index][0] | _time_figures(timed, index)
            if device == "host":  # memory is measured on this machine only
                figures["peak_bytes"] = peak_bytes(
                    content, name=subject.name, threads=threads, input_shapes=input_shapes
                )
            figures |= _score_figures(scores[index], is_baseline=not index) if scores else {}
            source = subject.source
            scheme = source.report.scheme if isinstance(source, Artifact) else ""
            rows.append(Row(name=subject.name, scheme=scheme, **figures))
            step.advance()
    fallback = chosen if isinstance(chosen, Task) else Task()
    measures = measures_of(scores[0].task if scores else fallback)
    report = Report(
        title=title,
        rows=tuple(rows),
        metric=measures[0].name,
        samples=scores[0].samples if scores else 0,
        conditions=timed.conditions,
        notes=(
            *(note for found in scores for note in found.notes),
            *(note for _, notes in models for note in notes),
            *(() if installed("zstandard") else (NO_ZSTD,)),
        ),
        versions=versions(),
        measures=measures,
    )
    return report if gate is None else report.with_gate(gate)


NO_ZSTD = "file, zstd: not measured, as it needs zstandard (pip install 'tfprune[report]')"


def versions() -> dict[str, str]:
    """Return the installed versions that the figures depend on."""
    found = {"python": platform.python_version(), "tfprune": tfprune.__version__}
    for package in ("ai-edge-litert", "keras", "numpy", "tensorflow", "zstandard"):
        try:
            found[package] = version_of(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # measuring needs no TensorFlow
    return found | {"zlib": zlib.ZLIB_RUNTIME_VERSION}


def _read(subject: _Subject) -> bytes:
    with named_in_errors(subject.name):
        data, runtime = read_any(subject.source)
        if runtime.ending != ".tflite":
            raise OptionError(
                f"{subject.name}: compare takes .tflite files; benchmark times {runtime.ending} "
                "files, and the command `tfprune benchmark` compares several"
            )
        return data


def _subjects(given: Any, default: str | None) -> list[_Subject]:
    """Return the given files with their names, in order."""
    if isinstance(given, Mapping):
        if not given:
            raise OptionError("compare: expected at least one file. Received an empty dict")
        if default and len(given) > 1:
            raise OptionError(f"baseline: expected one file. Received {', '.join(given)}")
        return [_Subject(str(name), *_pair(entry)) for name, entry in given.items()]
    if isinstance(given, list):
        return [_Subject(name_of(source), source, model) for source, model in map(_pair, given)]
    source, model = _pair(given)
    return [_Subject(default or name_of(source), source, model)]


def _different(subjects: list[_Subject]) -> list[_Subject]:
    """Raise for a baseline without candidates, and for duplicate names."""
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise OptionError(f"candidates need different names. Received {', '.join(names)}")
    if len(subjects) == 1:
        raise OptionError("candidates: expected at least one file. Received an empty list")
    return subjects


def _pair(entry: Any) -> tuple[Source, Any]:
    if isinstance(entry, tuple) and len(entry) != 2:
        raise OptionError(
            f"compare: expected a file, or a pair of one and its model. Received {len(entry)} parts"
        )
    return entry if isinstance(entry, tuple) else (entry, None)


def _file_figures(content: bytes) -> dict[str, Any]:
    """Return the figures of the file itself, as fields of a row."""
    found = sizes(content)
    return {
        "sha256": sha256(content),
        "raw_bytes": found.raw_bytes,
        "gzip_bytes": found.gzip_bytes,
        "zstd_bytes": found.zstd_bytes,
        "entropy_bytes": found.entropy_bytes,
        "weights": found.weights,
        "weight_zeros": found.zeros,
    }


def _score_figures(found: Fidelity, *, is_baseline: bool) -> dict[str, Any]:
    """Return the figures from the data; the baseline is not compared with itself."""
    scores = {"score": found.score, "scores": found.scores}
    if is_baseline:
        return scores
    return {
        **scores,
        "agreement": found.agreement,
        "max_abs_error": found.max_abs_error,
        "mean_abs_error": found.mean_abs_error,
    }


def _time_figures(timed: Interleaved, index: int) -> dict[str, Any]:
    """Return the figures of latency."""
    found = timed.latencies[index]
    return {
        "median_ms": found.median_ms,
        "p90_ms": found.p90_ms,
        "q1_ms": found.q1_ms,
        "q3_ms": found.q3_ms,
        "min_ms": found.min_ms,
        "latency_ratio": timed.ratios[index - 1] if index else None,
    }


def _model_figures(subject: _Subject) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of the Keras model, and notes on those it does not have."""
    if subject.model is None:
        return {}, []
    from tfprune.graph.cost.macs import macs  # needs Keras; comparing files does not

    counts = count_weights(subject.model)
    found = {"params": counts.params, "zeros": counts.zeros, "kernels": counts.kernels}
    try:
        work = macs(subject.model)
    except (ModelError, OptionError) as error:
        return found, [f"{subject.name}: multiply-accumulates were not counted: {error}"]
    notes = [
        f"{subject.name}: no rule for the multiply-accumulates of {name}" for name in work.unknown
    ]
    return {**found, "macs": work.total}, notes
