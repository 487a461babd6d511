"""Files beside their baseline: everything about all of them, in one run."""

import importlib.metadata
import platform
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tfprune
from tfprune.deploy.artefact import Artefact, sha256
from tfprune.deploy.runtime import read_file
from tfprune.errors import ModelError, OptionError
from tfprune.measure.counts import count_weights
from tfprune.measure.fidelity import Fidelity, Metric, score_files
from tfprune.measure.latency import interleaved
from tfprune.measure.memory import peak_bytes
from tfprune.measure.size import sizes
from tfprune.measure.sources import Source, called, name_of
from tfprune.progress import SILENT, Progress
from tfprune.report.data import Report, Row
from tfprune.report.gates import Gate

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
    metric: Metric = "accuracy",
    output: str | None = None,
    batch_size: int = 64,
    device: str = "host",
    threads: int = 1,
    runs: int = 50,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    gate: Gate | None = None,
    title: str = "Comparison",
    progress: Progress = SILENT,
) -> Report:
    """Return what candidates are worth beside their baseline, all measured in one run.

    Args:
        baseline: The dense file: an artefact, a path or bytes; a pair of one and its Keras model,
            which gives the parameters, zeros and multiply-accumulates; or a dict with one entry,
            whose key is what the report calls it.
        candidates: One such file or pair, a list of them, or a dict from name to file or pair.
        data: A pair (x, y) of arrays, or a dataset of batches, to score the files on; None leaves
            accuracy and agreement out.
        metric: `accuracy`, or a function of the labels and outputs of all samples, more being
            better.
        output: Which output is scored, where the files have several.
        batch_size: How many samples are taken from arrays at a time.
        device: Where latency is measured: a name of the registry of devices.
        threads: Threads of the runtime.
        runs: How many pairs are timed of each candidate and the baseline.
        input_shapes: Shapes by input name, for files that leave more than the batch free.
        gate: Limits that each candidate must keep.
        title: The heading of the report.
        progress: Where to report how far it is.

    Raises:
        ArtefactError: A file is missing, no `.tflite`, or the runtime cannot run it.
        DataError: The data is empty, has NaN, or does not fit a file.
        OptionError: An unknown device, metric or output, or two candidates of the same name.

    Example:
        report = compare("dense.tflite", {"int8": "int8.tflite"}, (x, y))
        print(report)
    """
    subjects = [*_subjects(baseline, "baseline"), *_subjects(candidates, None)]
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise OptionError(f"candidates need different names. Received {', '.join(names)}")
    files = [_read(subject) for subject in subjects]
    scores: Sequence[Fidelity | None] = [None] * len(files)
    if data is not None:
        scores = score_files(
            files,
            data,
            names=names,
            metric=metric,
            output=output,
            batch_size=batch_size,
            progress=progress,
        )
    latencies = interleaved(
        files,
        names=names,
        device=device,
        threads=threads,
        runs=runs,
        input_shapes=input_shapes,
        progress=progress,
    )
    rows, notes = [], []
    with progress.task("sizes and memory", len(files)) as task:
        for index, (subject, content) in enumerate(zip(subjects, files, strict=True)):
            latency, score = latencies.latencies[index], scores[index]
            counts, remarks = _model_figures(subject)
            notes += remarks
            weight = sizes(content)
            rows.append(
                Row(
                    name=subject.name,
                    scheme=_scheme(subject.source),
                    sha256=sha256(content),
                    raw_bytes=weight.raw_bytes,
                    gzip_bytes=weight.gzip_bytes,
                    entropy_bytes=weight.entropy_bytes,
                    weights=weight.weights,
                    weight_zeros=weight.zeros,
                    score=score.score if score else None,
                    agreement=score.agreement if score and index else None,
                    max_abs_error=score.max_abs_error if score and index else None,
                    mean_abs_error=score.mean_abs_error if score and index else None,
                    median_ms=latency.median_ms,
                    p90_ms=latency.p90_ms,
                    q1_ms=latency.q1_ms,
                    q3_ms=latency.q3_ms,
                    min_ms=latency.min_ms,
                    latency_ratio=latencies.ratios[index - 1] if index else None,
                    # Memory is that of this machine, which says nothing of another.
                    peak_bytes=peak_bytes(
                        content, name=subject.name, threads=threads, input_shapes=input_shapes
                    )
                    if device == "host"
                    else None,
                    **counts,
                )
            )
            task.advance()
    report = Report(
        title=title,
        rows=tuple(rows),
        metric=metric if isinstance(metric, str) else getattr(metric, "__name__", "metric"),
        samples=scores[0].samples if scores[0] else 0,
        conditions=latencies.conditions,
        notes=tuple(notes),
        versions=versions(),
    )
    return report.with_gate(gate) if gate else report


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on, as installed."""
    found = {"python": platform.python_version(), "tfprune": tfprune.__version__}
    for package in ("ai-edge-litert", "keras", "numpy", "tensorflow"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # a machine that only measures needs no TensorFlow
    return found | {"zlib": zlib.ZLIB_RUNTIME_VERSION}


def _read(subject: _Subject) -> bytes:
    with called(subject.name):
        return read_file(subject.source)


def _subjects(given: Any, default: str | None) -> list[_Subject]:
    """Name what was given, in its order."""
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


def _pair(entry: Any) -> tuple[Source, Any]:
    return entry if isinstance(entry, tuple) else (entry, None)


def _scheme(source: Source) -> str:
    return source.report.scheme if isinstance(source, Artefact) else ""


def _model_figures(subject: _Subject) -> tuple[dict[str, Any], list[str]]:
    """Return what only the Keras model tells, and what it could not."""
    if subject.model is None:
        return {}, []
    from tfprune.measure.macs import macs  # needs Keras; comparing files does not

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
