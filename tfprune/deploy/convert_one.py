"""Conversion of a model to one scheme, with verification."""

import contextlib
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tfprune.data.batches import BATCH_SIZE
from tfprune.deploy.converter.calibrate import Samples
from tfprune.deploy.converter.convert import convert_job
from tfprune.deploy.converter.error_hints import explain_failure
from tfprune.deploy.converter.export import export, full_precision, recurrent_layers
from tfprune.deploy.converter.grids import keep_grids
from tfprune.deploy.converter.options import Options, Settings, check_calibration, settings_for
from tfprune.deploy.converter.reorder import reorder
from tfprune.deploy.converter.rewrites.rewrite import rewrite
from tfprune.deploy.converter.weight_only import quantize_weights, resolve
from tfprune.deploy.converter.zero_points import center_second_factors
from tfprune.deploy.qat.quantize_aware import (
    float_layers,
    has_trained_ranges,
    is_quantize_aware,
    quantize_aware,
    ranges_kept,
    shares_values,
    strip_quantization,
)
from tfprune.deploy.qat.rounding.ranges import observing, traced_for_the_converter
from tfprune.deploy.round_for_file import rounded, why_not
from tfprune.deploy.verify.causes import batch_matters, rounding_matters
from tfprune.deploy.verify.layer_parity import first_disagreement
from tfprune.deploy.verify.operations import check_operations, float_operations
from tfprune.deploy.verify.parity import check_agreement, parity
from tfprune.deploy.verify.reference import (
    draw,
    file_outputs,
    model_outputs,
    some,
    versions,
)
from tfprune.errors import ConversionError, ModelError, OptionError, TfpruneError
from tfprune.graph.model_signature import Interface, check_batch, interface
from tfprune.runtime import flatbuffer, jobs, litert, stored_numbers
from tfprune.runtime.artifact import Artifact, ConversionReport, gzip_bytes, sha256
from tfprune.runtime.flatbuffer import Contents
from tfprune.storage.scratch import scratch_folder
from tfprune.utils.progress import SILENT, Progress
from tfprune.workers import pool
from tfprune.workers.arrays import save_arrays

# The converter of TensorFlow 2.21 leaves one SPLIT of an unrolled recurrent layer float in about
# one of ten runs on the same input; the other runs are right and equal.
_UNSTEADY = frozenset({"SPLIT"})
_ATTEMPTS = 6
_GUESSED = (
    "a subclassed model records the shapes of its inputs, not their types: types that its call "
    "takes were assumed, float32 before others; give input_signature= for other types"
)


def convert_one(
    model: Any, scheme: str, options: Options, *, progress: Progress = SILENT
) -> Artifact:
    """Convert a model with one of `SCHEMES`; arguments and errors as in `to_tflite`."""
    settings = settings_for(scheme, options)
    aware = is_quantize_aware(model) and settings.plan.needs_calibration
    # The ranges are then in the model; the data is only for verification.
    ready = aware and settings.plan.activations == "int8"
    trained_ranges = ready and has_trained_ranges(model)
    check_calibration(scheme, settings.plan, trained_ranges or options.calibration is not None)
    face, trained = _faces(model, options, aware)
    notes = [_GUESSED] if face.guessed else []
    samples, origin = draw(face, options.calibration, notes)
    with (
        progress.task(f"convert to {scheme}", 3) as task,
        full_precision(face.model) as lowered,
        full_precision(trained.model),
        ranges_kept(trained.model) if ready and not trained_ranges else contextlib.nullcontext(),
    ):
        if lowered:
            notes.append("the model trains in 16-bit floats; the file computes in 32-bit ones")
        if ready and not trained_ranges:
            _observe(trained, samples)
        ranged = trained if ready else _sharing(model, face, settings, options, samples, notes)
        made = _from_training(ranged, settings, options, notes) if ranged else None
        data, outputs = made or _rounded(model, face, settings, options, samples, notes)
        task.advance()
        data = _finish(data, face, outputs, notes)
        contents = flatbuffer.parse(data, f"the {scheme} file")
        floats = float_layers(trained.model) if made else ()
        notes += check_operations(contents, scheme, settings.allowed, floats)
        task.advance()
        compared = some(samples)
        # Compare with the trained model, including its rounding.
        expected = model_outputs(trained, compared, settings.batch)
        actual = _run(data, compared, settings)
        task.advance()
    steps = _output_steps(contents)
    found = tuple(
        parity(name, expected[name], actual[name], data=origin, fraction=settings.bound,
               step=steps.get(name, 0.0))
        for name in outputs
    )  # fmt: skip
    check_agreement(
        found,
        f"the {scheme} file",
        "calibrate on representative data, choose another scheme",
        # A layer counts as wrong when its error exceeds the bound of the output.
        lambda: (
            (settings.batch is None and batch_matters(trained, compared, expected))
            or first_disagreement(face.model, data, compared, settings.bound)
            + (rounding_matters(face, compared, settings.bound) if settings.plan.quantize else "")
        ),
    )
    inputs, given = stored_numbers.specs(contents)
    report = ConversionReport(
        scheme=scheme,
        io=settings.io,
        versions=versions(model, ["ai-edge-litert"]),
        sha256=sha256(data),
        raw_bytes=len(data),
        gzip_bytes=gzip_bytes(data),
        ops=dict(sorted(Counter(op.name for op in contents.ops()).items())),
        inputs=inputs,
        outputs=given,
        parity=found,
        notes=tuple(notes),
    )
    return Artifact(data, None, report)


def _faces(model: Any, options: Options, aware: bool) -> tuple[Interface, Interface]:
    """Return the model that is converted, and the one that the file is compared with."""
    given = options.input_signature, options.calibration, options.input_shape
    means = options.random == "mean"
    face = trained = replace(interface(strip_quantization(model), *given), mean_draws=means)
    if aware:
        names = tuple(face.model.output_names)
        trained = replace(interface(model, *given), outputs=names, mean_draws=means)
    check_batch(options.batch, face.inputs)
    return face, trained


def _sharing(
    model: Any,
    face: Interface,
    settings: Settings,
    options: Options,
    samples: Samples,
    notes: list[str],
) -> Interface | None:
    """Return a clustered model with ranges, whose kernels get no more integers than values.

    The converter's own scales would give equal weights of different channels different integers.
    """
    if settings.plan.activations != "int8" or is_quantize_aware(model) or not shares_values(model):
        return None
    try:
        aware = quantize_aware(model, keep_clusters=True, input_shape=options.input_shape)
    except ModelError as error:
        notes.append(f"weights that are equal in the model may differ in the file: {error}")
        return None
    names = tuple(model_outputs(face, some(samples)))
    ranged = replace(face, model=aware, outputs=names)
    _observe(ranged, samples)
    notes.append("weights that are equal in the model are equal in the file")
    return ranged


def _observe(ranged: Interface, samples: Samples) -> None:
    """Find the ranges of a quantization-aware model without training."""
    count = len(next(iter(samples.values())))
    with observing():
        for start in range(0, count, BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            arrays = {name: array[batch] for name, array in samples.items()}
            ranged.model(ranged.arguments(arrays), training=False)


def _from_training(
    trained: Interface, settings: Settings, options: Options, notes: list[str]
) -> tuple[bytes, tuple[str, ...]] | None:
    """Return the file with trained ranges; None if some are missing and data can replace them."""
    said = len(notes)
    made = _convert(trained, settings, None, notes)
    left = sorted(
        set(_left_float(made[0], float_layers(trained.model))).difference(settings.allowed)
    )
    if not left or options.calibration is None:
        return made
    del notes[said:]
    notes.append(f"calibrated: training found no range for {', '.join(left)}")
    return None


def _rounded(
    model: Any,
    face: Interface,
    settings: Settings,
    options: Options,
    samples: Samples,
    notes: list[str],
) -> tuple[bytes, tuple[str, ...]]:
    """Convert with weights that are rounded as the settings say."""
    shown = samples if settings.plan.needs_calibration else None
    if settings.rounding != "nearest":
        reason = why_not(face, settings, options.calibration is not None, is_quantize_aware(model))
        if reason and options.rounding is not None:
            raise OptionError(f"rounding: {options.rounding!r} is not possible: {reason}")
        if not reason:
            with rounded(face, settings, samples, notes) as changed:
                return _convert(face, changed, shown, notes)
        if options.calibration is not None:
            notes.append(f"each weight is rounded to the nearest: {reason}")
    return _convert(face, settings, shown, notes)


def _convert(
    face: Interface, settings: Settings, samples: Samples | None, notes: list[str]
) -> tuple[bytes, tuple[str, ...]]:
    """Return the file and the names of the outputs in the model's order."""
    recurrent, batch = recurrent_layers(face.model), settings.batch
    if recurrent and batch is None:
        batch = 1
        notes.append(
            f"batch 1: layer {recurrent[0].name!r} is recurrent and needs a fixed batch size"
        )
    # The calibrator of TensorFlow 2.21 crashes in the loop of a recurrent layer.
    unroll = bool(recurrent) and settings.plan.needs_calibration
    if unroll:
        notes.append("recurrent layers are unrolled: loops cannot be calibrated")
    try:
        try:
            return _convert_once(face, settings, samples, batch, unroll, notes)
        except pool.JobError as error:
            if "element_shape to be static" not in str(error) or batch is not None:
                raise
        notes.append("batch 1: a loop in the model needs a fixed batch size")
        return _convert_once(face, settings, samples, 1, unroll, notes)
    except pool.ChildError as error:
        raise ConversionError(
            f"model {face.model.name!r} cannot be converted to {settings.name}: "
            f"{explain_failure(str(error), crashed=isinstance(error, pool.CrashError))}"
        ) from None


def _convert_once(
    face: Interface,
    settings: Settings,
    samples: Samples | None,
    batch: int | None,
    unroll: bool,
    notes: list[str],
) -> tuple[bytes, tuple[str, ...]]:
    with scratch_folder() as folder:
        saved, target = Path(folder, "saved_model"), Path(folder, "model.tflite")
        outputs = _export(face, saved, batch, unroll, settings)
        rewrite(saved, settings.plan.activations)
        archive = None
        if samples is not None:
            archive = str(Path(folder, "samples.npz"))
            save_arrays(archive, samples)
        plan = settings.plan
        options = {
            "quantize": plan.quantize,
            "activations": plan.activations,
            "float16": plan.float16,
            "sparse": plan.sparse,
            "io": settings.io,
            "samples": archive,
            "batch": batch or max(1, face.inputs[0].shape[0]),
        }
        run_job = functools.partial(pool.run_job, limit_s=settings.limit_s, kind="converter")
        for _ in range(_ATTEMPTS):
            run_job(convert_job, str(saved), str(target), options)
            data = target.read_bytes()
            left = _left_float(data, float_layers(face.model))
            if not (plan.needs_calibration and _UNSTEADY & set(left)):
                break
        floats = None
        if settings.rules is not None:
            floats = data
            contents = flatbuffer.parse(data, "the float file")
            rules = resolve(settings.rules, contents, settings.chosen)
            run_job(quantize_weights, str(target), str(target), rules)
            data = target.read_bytes()
        trained = plan.needs_calibration and samples is None
        if floats is not None or (plan.quantize and not trained):
            data, exact = keep_grids(data, floats)
            if exact:
                notes.append(f"kernels stored exactly, as multiples of few steps: {exact}")
        return data, outputs


def _export(
    face: Interface, folder: Path, batch: int | None, unroll: bool, settings: Settings
) -> tuple[str, ...]:
    try:
        with traced_for_the_converter():
            return export(face, folder, batch=batch, unroll=unroll)
    except TfpruneError:
        raise
    except (ValueError, TypeError, RuntimeError, AssertionError, AttributeError) as error:
        # The user's own layers run here, as a graph, and may fail in any of these ways.
        raise ConversionError(
            f"model {face.model.name!r} cannot be traced for {settings.name}: "
            f"{explain_failure(str(error))}"
        ) from error


def _left_float(data: bytes, layers: Sequence[str] = ()) -> dict[str, int]:
    return float_operations(flatbuffer.parse(data, "the converted file"), layers)


def _finish(data: bytes, face: Interface, outputs: Sequence[str], notes: list[str]) -> bytes:
    """Return the file with inputs and outputs in the model's order, and zero points of 0."""
    data = reorder(data, [spec.name for spec in face.inputs], outputs)
    data, uneven = center_second_factors(data)
    if uneven:
        notes.append(
            f"BATCH_MATMUL multiplies by {', '.join(uneven)}, whose zero point cannot be 0: "
            "TensorFlow 2.21 and ai-edge-litert before 2.1.3 compute that wrongly"
        )
    return data


def _run(data: bytes, samples: Samples, settings: Settings) -> Samples:
    try:
        _, outputs = file_outputs(jobs.run, data, ".tflite", samples, settings.limit_s)
    except pool.ChildError as error:
        raise ConversionError(
            f"the {settings.name} file was converted but the runtime fails on it: "
            f"{explain_failure(str(error), crashed=isinstance(error, pool.CrashError))}"
        ) from None
    litert.remember_loadable(data)
    return outputs


def _output_steps(contents: Contents) -> dict[str, float]:
    """Return the distance between neighboring values of each output that was quantized."""
    graph = contents.subgraphs[0]
    source = {
        op.outputs[0]: op.inputs[0] for op in graph.ops if op.name == "DEQUANTIZE" and op.outputs
    }
    steps = {}
    for spec, index in zip(stored_numbers.specs(contents)[1], graph.outputs, strict=True):
        scales = graph.tensors[source.get(index, index)].scales
        if len(scales) == 1:
            steps[spec.name] = scales[0]
    return steps
