"""Choice of a scheme by measuring: every candidate is built, scored and timed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tfprune.data.model_comparison import is_whole, rms_share, same_answers
from tfprune.deploy.convert_one import convert_one
from tfprune.deploy.converter.calibrate import Samples
from tfprune.deploy.converter.options import Options, check_time_limit
from tfprune.deploy.verify.reference import draw
from tfprune.errors import ConversionError, OptionError
from tfprune.graph.model_signature import Interface, interface, symbolic_inputs
from tfprune.measure.devices.registry import device_of
from tfprune.measure.fidelity import Choice as Chosen
from tfprune.measure.fidelity import Metric, chosen_task, measures_of, score_files
from tfprune.measure.latency import Interleaved, check_counts, interleaved
from tfprune.report.data import Measure
from tfprune.runtime.artifact import Artifact
from tfprune.runtime.litert import Runner
from tfprune.runtime.schemes import AUTO, SCHEMES, Candidate, Choice, check_prefer, pick
from tfprune.task.scoring import settled
from tfprune.task.task import Task
from tfprune.utils.extras import installed
from tfprune.utils.progress import SILENT, Progress

BASE = "float32"
CANDIDATES = (BASE, "float16", "dynamic", "int8")
SMALLER = ("weight_int8", "int4")
"""Further candidates when size is preferred and litert-quantizer is installed."""


def choose(
    model: Any,
    options: Options,
    *,
    data: Any = None,
    prefer: str = "latency",
    max_drop: float | None = None,
    candidates: Sequence[str] | None = None,
    metric: Metric | None = None,
    task: Task | str | None = None,
    device: str = "host",
    threads: int = 1,
    runs: int = 50,
    progress: Progress = SILENT,
) -> Artifact:
    """Convert a model with the best measured scheme; implements `to_tflite(scheme="auto")`.

    Every candidate is converted and verified. Latencies are measured in one run, interleaved with
    the float32 file. Of the candidates that lose at most `max_drop`, the fastest (or smallest) is
    chosen; between latencies that are equal within the noise, the smaller file.

    Returns:
        The file; `report.choice` lists all candidates.

    The other arguments are those of `to_tflite`. `options` has samples of the input; its `io`
    applies to the candidates that support it. Raises as `to_tflite` does; a ConversionError if not
    even the float32 file can be made.

    Example:
        artifact = choose(model, Options(calibration=x[:200]), data=(x_val, y_val))
        print(artifact.report.choice)
    """
    check_prefer(prefer)
    check_time_limit(options.time_limit_s)
    check_counts(threads=threads, runs=runs)
    device_of(device)
    number = isinstance(max_drop, int | float) and not isinstance(max_drop, bool)
    if max_drop is not None and not (number and max_drop >= 0):
        raise OptionError(f"max_drop: expected a number >= 0. Received {max_drop!r}")
    wanted = chosen_task(task, metric)
    notes: list[str] = []
    names = _names(candidates, prefer, notes)
    _check_options(options, names)
    face = interface(model, options.input_signature, options.calibration, options.input_shape)
    # Read once: an iterable may yield its batches only once.
    samples, _ = draw(face, options.calibration, notes)
    files, failed = _convert_all(model, names, _with_samples(options, face, samples), progress)
    timed = interleaved(
        list(files.values()),
        names=list(files),
        device=device,
        threads=threads,
        runs=runs,
        input_shapes=_open_shapes(face, samples, options.batch),
        progress=progress,
    )
    if timed.conditions.fake:
        raise OptionError(f"device: {device} is a fake device; its times cannot choose a scheme")
    judged_by, losses, scores = _losses(files, data, samples, wanted, progress)
    if max_drop is None:
        # A point of a share; of numbers with a unit, a hundredth of what float32 has.
        base = scores[BASE]
        max_drop = 0.01 if judged_by.share or base is None else 0.01 * abs(base)
    rows = _rows(names, files, failed, timed, losses, scores, max_drop)
    best = pick(rows, prefer)
    choice = _choice(rows, best, prefer, max_drop, judged_by, timed)
    taken = files[best.scheme]
    said = (*taken.report.notes, *notes, choice.why)
    return replace(taken, report=replace(taken.report, notes=said, choice=choice))


def _with_samples(options: Options, face: Interface, samples: Samples) -> Options:
    signature = options.input_signature
    if signature is None and symbolic_inputs(face.model) is None:
        # The samples are named now, but the call of such a model takes no names.
        signature = face.arguments({spec.name: spec for spec in face.inputs})
    return replace(options, calibration=samples, input_signature=signature)


def _open_shapes(face: Interface, samples: Samples, batch: int | None) -> dict[str, Sequence[int]]:
    """Return the shapes of the samples, for inputs with open sizes."""
    return {
        spec.name: (batch or max(spec.shape[0], 1), *samples[spec.name].shape[1:])
        for spec in face.inputs
        if -1 in spec.shape[1:]
    }


def _convert_all(
    model: Any, names: Sequence[str], options: Options, progress: Progress
) -> tuple[dict[str, Artifact], dict[str, str]]:
    """Return the files by scheme, and the errors of the others."""
    files, failed = {}, {}
    with progress.task("candidates", len(names)) as task:
        for name in names:
            io = options.io if options.io in SCHEMES[name].io else None
            try:
                rounding = options.rounding if SCHEMES[name].rounds_weights else None
                own = replace(options, io=io, rounding=rounding)
                files[name] = convert_one(model, name, own)
            except ConversionError as error:
                if name == BASE:
                    raise
                failed[name] = str(error)
            task.advance()
    return files, failed


def _names(candidates: Sequence[str] | None, prefer: str, notes: list[str]) -> list[str]:
    if candidates is not None:
        if isinstance(candidates, str) or not candidates:
            raise OptionError(f"candidates: expected a list of schemes. Received {candidates!r}")
        for name in candidates:
            SCHEMES[name]
        return list(dict.fromkeys([BASE, *candidates]))
    names = list(CANDIDATES)
    if prefer == "size":
        if not installed("litert_quantizer"):
            notes.append(f"{', '.join(SMALLER)} were not tried: litert-quantizer is not installed")
        else:
            names += SMALLER
    return names


def _check_options(options: Options, names: Sequence[str]) -> None:
    if options.layers:
        raise OptionError(f"layers: scheme {AUTO!r} applies to the whole model; remove layers=")
    if options.calibration is None:
        raise OptionError(
            f"calibration: scheme {AUTO!r} needs samples of the model's input to compare its "
            "candidates on; give calibration=x_train[:200]"
        )
    allowed = list(dict.fromkeys(kind for name in names for kind in SCHEMES[name].io))
    if options.io is not None and options.io not in allowed:
        raise OptionError(
            f"io: these candidates allow {', '.join(allowed)}. Received {options.io!r}"
        )


def _losses(
    files: Mapping[str, Artifact], data: Any, samples: Any, task: Chosen, progress: Progress
) -> tuple[Measure, dict[str, float], dict[str, float | None]]:
    """Return what is judged, the loss of each file, and its score if there are labels."""
    names = list(files)
    if data is not None:
        found = score_files(list(files.values()), data, names=names, task=task, progress=progress)
        base, measure = found[0].score, measures_of(found[0].task)[0]
        return (
            measure,
            {n: measure.loss(base, one.score) for n, one in zip(names, found, strict=True)},
            {name: one.score for name, one in zip(names, found, strict=True)},
        )
    outputs = {name: Runner(file).run_named(samples) for name, file in files.items()}
    expected = outputs[BASE]
    none: dict[str, float | None] = dict.fromkeys(names)
    same = {n: _same(task, expected, outputs[n]) for n in names}
    if all(one is not None for one in same[BASE].values()):
        missed = {n: max(float((~x).mean()) for x in same[n].values()) for n in names}
        return Measure("agreement"), missed, none
    return Measure("error"), {n: _error(expected, outputs[n], same[n]) for n in names}, none


def _same(task: Chosen, expected: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return by output where the answers are the same; None for an output of numbers."""
    if not isinstance(task, Task):
        return {name: same_answers(expected[name], found[name]) for name in expected}
    task = settled(task, {name: expected[name] for name in task.outputs or expected})
    return {
        name: task.outputs.get(name, task).agreement(expected[name], found[name])
        for name in expected
    }


def _error(expected: Mapping[str, Any], found: Mapping[str, Any], same: Mapping[str, Any]) -> float:
    return max(
        float((~same[n]).mean())
        if is_whole(expected[n]) and same[n] is not None
        else rms_share(expected[n], found[n])
        for n in expected
    )


def _rows(
    names: Sequence[str],
    files: Mapping[str, Artifact],
    failed: Mapping[str, str],
    timed: Interleaved,
    losses: Mapping[str, float],
    scores: Mapping[str, float | None],
    max_drop: float,
) -> list[Candidate]:
    latencies = {latency.name: latency for latency in timed.latencies}
    ratios = dict(zip(list(files)[1:], timed.ratios, strict=True))
    rows = []
    for name in names:
        if name in failed:
            rows.append(Candidate(name, reason=f"failed: {failed[name]}"))
            continue
        ratio, report = ratios.get(name), files[name].report
        passed = losses[name] <= max_drop + 1e-9
        rows.append(
            Candidate(
                scheme=name,
                raw_bytes=report.raw_bytes,
                gzip_bytes=report.gzip_bytes,
                median_ms=latencies[name].median_ms,
                ratio=ratio.median if ratio else 1.0,
                q1=ratio.q1 if ratio else 1.0,
                q3=ratio.q3 if ratio else 1.0,
                score=scores[name],
                drop=losses[name],
                passed=passed,
                reason="" if passed else f"loses {losses[name]:.4f}, allowed {max_drop:g}",
            )
        )
    return rows


def _choice(
    rows: Sequence[Candidate],
    best: Candidate,
    prefer: str,
    max_drop: float,
    judged_by: Measure,
    timed: Interleaved,
) -> Choice:
    seen = timed.conditions
    able = sum(row.passed for row in rows)
    rule = {"latency": "the fastest", "size": "the smallest"}[prefer]
    why = (
        f"{best.scheme} is {rule} of the {able} of {len(rows)} candidates that lose at most "
        f"{max_drop:g} of {judged_by.name}: {best.ratio:.2f}x the time of float32, "
        f"{(best.gzip_bytes or 0) / 1e3:.1f} KB under gzip"
    )
    shown = []
    for row in rows:
        if row.reason or row.scheme == best.scheme:
            shown.append(row)
        elif prefer == "size":
            shown.append(replace(row, reason="larger"))
        else:
            slower = (row.ratio or 0.0) > (best.ratio or 0.0)
            shown.append(replace(row, reason="slower" if slower else "as fast, larger"))
    return Choice(
        taken=best.scheme,
        why=why,
        prefer=prefer,
        max_drop=max_drop,
        judged_by=judged_by.name,
        higher_is_better=judged_by.higher_is_better,
        measured_on=(
            f"{seen.device}: {seen.machine}, {seen.runtime}, {seen.threads} thread(s), "
            f"{seen.clock}, {seen.runs} interleaved pairs, A/A {seen.noise.median:.2f}x "
            f"[{seen.noise.q1:.2f}, {seen.noise.q3:.2f}]"
        ),
        rows=tuple(shown),
    )
