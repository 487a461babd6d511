"""A Keras model as a `.tflite` file that has been loaded and compared before it is handed over."""

import importlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfprune.deploy.converter.calibrate import Samples
from tfprune.deploy.converter.convert import convert_job
from tfprune.deploy.converter.error_hints import way_out
from tfprune.deploy.converter.export import export, full_precision, recurrent_layers
from tfprune.deploy.converter.options import (
    check_allowed,
    check_bound,
    check_calibration,
    check_io,
    check_layers,
    check_time_limit,
)
from tfprune.deploy.converter.reorder import reorder
from tfprune.deploy.converter.weight_only import Rule, quantise_weights, resolve
from tfprune.deploy.converter.zero_points import centre_second_factors
from tfprune.deploy.qat.quantize_aware import (
    has_trained_ranges,
    is_quantize_aware,
    strip_quantization,
)
from tfprune.deploy.qat.ranges import traced_for_the_converter
from tfprune.deploy.verify.layer_parity import first_disagreement
from tfprune.deploy.verify.operations import check_operations, float_operations
from tfprune.deploy.verify.parity import agrees, parity
from tfprune.deploy.verify.reference import answers, check_path, draw, some, versions
from tfprune.errors import ConversionError, OptionError, TfpruneError
from tfprune.graph.model_signature import Interface, check_batch, interface
from tfprune.runtime import flatbuffer, jobs, litert, stored_numbers
from tfprune.runtime.artifact import Artefact, ConversionReport, Parity, gzip_bytes, sha256
from tfprune.runtime.flatbuffer import Contents
from tfprune.runtime.scheme_choice import AUTO, CHOOSERS, Prefer, check_scheme
from tfprune.runtime.schemes import SCHEMES, Scheme
from tfprune.storage.scratch import scratch_folder
from tfprune.utils.progress import SILENT, Progress
from tfprune.workers import pool
from tfprune.workers.arrays import load_arrays, save_arrays

if TYPE_CHECKING:
    import keras
    import tf_keras

# The converter of TensorFlow 2.21 leaves one SPLIT of an unrolled recurrent layer float in about
# one of ten runs on the same input; the other runs are right and equal.
_UNSTEADY = frozenset({"SPLIT"})
_ATTEMPTS = 6


def to_tflite(
    model: "keras.Model | tf_keras.Model",
    path: str | os.PathLike[str] | None = None,
    *,
    scheme: str = "float32",
    calibration: Any = None,
    io: str | None = None,
    batch: int | None = None,
    input_signature: Any = None,
    layers: Mapping[str, str] | None = None,
    allow_float: Sequence[str] = (),
    bound: float | None = None,
    data: Any = None,
    prefer: Prefer | None = None,
    max_drop: float | None = None,
    time_limit_s: float = pool.CONVERT_LIMIT_S,
    progress: Progress = SILENT,
) -> Artefact:
    """Return a model as a `.tflite` file that was run and agrees with the model.

    The conversion, the first load and the comparison happen in child processes: a crash there is
    an error here. Same model and data, same bytes.

    Args:
        model: A built `keras.Model` or `tf_keras.Model`: sequential, functional or subclassed.
            Zeros that pruning made stay zeros. Of what `quantize_aware` gave, "int8" takes the
            rounding that was trained, and is compared with it; the others leave it out.
        path: Where to write the file; its report goes beside it as `.json`. None writes nothing.
        scheme: One of `SCHEMES`: "float32", "float16", "dynamic", "int8" … Or "auto": the
            candidates are built and measured, and the fastest that stays accurate is taken; its
            report tells of all (`measure.choose.choose` has more to set).
        calibration: Samples of the model's input: an array, a dict or for several inputs a list
            of arrays, (inputs, labels), or a dataset or another iterable of these; labels are not
            read. "int8" needs them, unless `quantize_aware` has seen what they would show; about
            200 do. The comparison uses them too.
        io: The type of float inputs and outputs in the file: for "int8" either "int8" (the
            default) or "float32".
        batch: A batch size to fix in the file. None leaves it open, except where the model has
            recurrent layers, which need it fixed: they get 1.
        input_signature: Shapes and types of the inputs of a subclassed model, when it cannot tell
            or has inputs that are no floats.
        layers: Other schemes for some layers, by regular expression on the names that `inspect`
            shows: {"dense_1/": "float32", "conv": "weight_int8"}. For the schemes that
            litert-quantizer makes: "int4", "weight_int4", "weight_int8".
        allow_float: Names of operations that may stay float in an integer plan: ["SOFTMAX"].
        bound: How far the file may lie from the model instead of the scheme's own bound: root mean
            squared difference as a fraction of the output's standard deviation (at least of a
            twentieth of its largest number).
        data: For "auto": labelled samples (x, y) to score the candidates on. Without them they are
            judged by their agreement with the float32 file on the calibration samples.
        prefer: For "auto": "latency" (the default) or "size".
        max_drop: For "auto": what may be lost of accuracy or agreement; by default 0.01.
        time_limit_s: Seconds the conversion may take.
        progress: Told of the steps.

    Returns:
        The file with its report.

    Raises:
        OptionError: An argument is outside of what is allowed.
        ModelError: The model is none, is not built, or takes text.
        DataError: The calibration data does not fit.
        ConversionError: The file cannot be made, cannot be run, or disagrees with the model.

    Example:
        artefact = to_tflite(model, "model.tflite", scheme="int8", calibration=x[:200])
        artefact.report.gzip_bytes
    """
    chosen = {"data": data, "prefer": prefer, "max_drop": max_drop}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    check_scheme(scheme)
    check_time_limit(time_limit_s)
    if scheme in CHOOSERS:
        if layers:
            raise OptionError(f"layers: scheme {scheme!r} is for the whole model; leave it out")
        module, _, function = CHOOSERS[scheme].partition(":")
        return getattr(importlib.import_module(module), function)(
            model,
            path,
            calibration=calibration,
            io=io,
            batch=batch,
            input_signature=input_signature,
            allow_float=allow_float,
            bound=bound,
            time_limit_s=time_limit_s,
            progress=progress,
            **chosen,
        )
    for name in chosen:
        raise OptionError(f"{name}: is for scheme {AUTO!r}; scheme {scheme!r} measures nothing")
    plan = SCHEMES[scheme]
    check_path(path, ".tflite")
    aware = is_quantize_aware(model) and plan.needs_calibration
    # What the file rounds by is then in the model; data only shows that it does.
    ready = aware and plan.activations == "int8" and has_trained_ranges(model)
    io = check_io(scheme, plan, io)
    check_calibration(scheme, plan, ready or calibration is not None)
    bound = check_bound(bound)
    batch = check_batch(batch)
    allowed = check_allowed(allow_float)
    rules = check_layers(scheme, plan, {} if layers is None else layers)
    face = interface(strip_quantization(model), input_signature, calibration)
    trained = face
    if aware:
        names = tuple(face.model.output_names)
        trained = replace(interface(model, input_signature, calibration), outputs=names)
    check_batch(batch, face.inputs)
    notes: list[str] = []
    if face.guessed:
        notes.append(
            "a subclassed model keeps the shapes of its inputs, not their types: they were taken "
            "for float32; give input_signature= for others"
        )
    samples, origin = draw(face, calibration, notes)

    with (
        progress.task(f"convert to {scheme}", 3) as task,
        full_precision(face.model) as lowered,
        full_precision(trained.model),
    ):
        if lowered:
            notes.append("the model trains in 16-bit floats; the file computes in 32-bit ones")
        settings = _Settings(scheme, plan, io, time_limit_s, rules)
        said = len(notes)
        if ready:
            data, outputs = _convert(trained, settings, None, batch, notes)
            left = sorted(set(_left_float(data)).difference(allowed))
            if left and calibration is not None:
                ready = False
                del notes[said:]
                notes.append(f"calibrated: training has seen no range for all of {', '.join(left)}")
        if not ready:
            shown = samples if plan.needs_calibration else None
            data, outputs = _convert(face, settings, shown, batch, notes)
        task.advance()
        data = reorder(data, [spec.name for spec in face.inputs], outputs)
        data, uneven = centre_second_factors(data)
        if uneven:
            notes.append(
                f"BATCH_MATMUL multiplies by {', '.join(uneven)}, whose zero point cannot be 0: "
                "TensorFlow 2.21 and ai-edge-litert before 2.1.3 compute that wrongly"
            )
        contents = flatbuffer.parse(data, f"the {scheme} file")
        notes += check_operations(contents, scheme, allowed)
        task.advance()
        compared = some(samples)
        # With what was trained, rounding and all.
        expected = answers(trained, compared)
        actual = _run_file(data, compared, settings)
        task.advance()
    found = _compare(outputs, expected, actual, contents, origin, bound or plan.bound)
    _check_parity(found, scheme, face, data, compared, bound or plan.bound)
    inputs, given = stored_numbers.specs(contents)
    report = ConversionReport(
        scheme=scheme,
        io=io,
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
    artefact = Artefact(data, None, report)
    return artefact if path is None else artefact.save(path)


@dataclass(frozen=True)
class _Settings:
    name: str
    plan: Scheme
    io: str
    limit_s: float
    rules: list[Rule] | None


def _convert(
    face: Interface,
    settings: _Settings,
    samples: Samples | None,
    batch: int | None,
    notes: list[str],
) -> tuple[bytes, tuple[str, ...]]:
    """Return the file and the names of the outputs in the model's order."""
    recurrent = recurrent_layers(face.model)
    if recurrent and batch is None:
        batch = 1
        notes.append(f"batch 1: layer {recurrent[0].name!r} is recurrent and needs it fixed")
    # The calibrator of TensorFlow 2.21 ends the process in the loop of a recurrent layer.
    unroll = bool(recurrent) and settings.plan.needs_calibration
    if unroll:
        notes.append("recurrent layers are unrolled: integers cannot be calibrated in a loop")
    try:
        return _convert_once(face, settings, samples, batch, unroll)
    except pool.JobError as error:
        if "element_shape to be static" not in str(error) or batch is not None:
            raise _failure(error, settings, face) from None
    except pool.ChildError as error:
        raise _failure(error, settings, face) from None
    notes.append("batch 1: the model loops, which needs it fixed")
    try:
        return _convert_once(face, settings, samples, 1, unroll)
    except pool.ChildError as error:
        raise _failure(error, settings, face) from None


def _convert_once(
    face: Interface, settings: _Settings, samples: Samples | None, batch: int | None, unroll: bool
) -> tuple[bytes, tuple[str, ...]]:
    with scratch_folder() as folder:
        saved, target = Path(folder, "saved_model"), Path(folder, "model.tflite")
        outputs = _export(face, saved, batch, unroll, settings)
        archive = None
        if samples is not None:
            archive = str(Path(folder, "samples.npz"))
            save_arrays(archive, samples)
        plan = settings.plan
        options = {
            "quantise": plan.quantise,
            "activations": plan.activations,
            "float16": plan.float16,
            "sparse": plan.sparse,
            "io": settings.io,
            "samples": archive,
            "batch": batch or max(1, face.inputs[0].shape[0]),
        }
        for _ in range(_ATTEMPTS):
            pool.run_job(
                convert_job,
                str(saved),
                str(target),
                options,
                limit_s=settings.limit_s,
                kind="converter",
            )
            data = target.read_bytes()
            if not (plan.needs_calibration and _UNSTEADY & set(_left_float(data))):
                break
        if settings.rules is not None:
            rules = resolve(settings.rules, flatbuffer.parse(data, "the float file"))
            pool.run_job(
                quantise_weights,
                str(target),
                str(target),
                rules,
                limit_s=settings.limit_s,
                kind="converter",
            )
            data = target.read_bytes()
        return data, outputs


def _export(
    face: Interface, folder: Path, batch: int | None, unroll: bool, settings: _Settings
) -> tuple[str, ...]:
    try:
        with traced_for_the_converter():
            return export(face, folder, batch=batch, unroll=unroll)
    except TfpruneError:
        raise
    except (ValueError, TypeError, RuntimeError, AssertionError, AttributeError) as error:
        # The user's own layers run here, as a graph, and may fail in any of these ways.
        text = " ".join(str(error).split())
        raise ConversionError(
            f"model {face.model.name!r} cannot be traced for {settings.name}: {way_out(text)}"
        ) from error


def _left_float(data: bytes) -> dict[str, int]:
    return float_operations(flatbuffer.parse(data, "the converted file"))


def _failure(error: pool.ChildError, settings: _Settings, face: Interface) -> ConversionError:
    text = " ".join(str(error).split())
    return ConversionError(
        f"model {face.model.name!r} cannot be converted to {settings.name}: "
        f"{way_out(text, crashed=isinstance(error, pool.CrashError))}"
    )


def _run_file(data: bytes, samples: Samples, settings: _Settings) -> dict[str, np.ndarray]:
    with scratch_folder() as folder:
        paths = [str(Path(folder, name)) for name in ("model.tflite", "in.npz", "out.npz")]
        Path(paths[0]).write_bytes(data)
        save_arrays(paths[1], samples)
        try:
            pool.run_job(jobs.run, *paths, limit_s=settings.limit_s)
        except pool.ChildError as error:
            text = " ".join(str(error).split())
            raise ConversionError(
                f"the {settings.name} file was made but the runtime fails on it: "
                f"{way_out(text, crashed=isinstance(error, pool.CrashError))}"
            ) from None
        litert.remember_loadable(data)
        return load_arrays(paths[2])


def _compare(
    outputs: Sequence[str],
    expected: Mapping[str, np.ndarray],
    actual: Mapping[str, np.ndarray],
    contents: Contents,
    origin: str,
    fraction: float,
) -> tuple[Parity, ...]:
    steps = _output_steps(contents)
    return tuple(
        parity(
            name,
            expected[name],
            actual[name],
            data=origin,
            fraction=fraction,
            step=steps.get(name, 0.0),
        )
        for name in outputs
    )


def _output_steps(contents: Contents) -> dict[str, float]:
    """Return the distance between neighbouring values of each output that was quantised."""
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


def _check_parity(
    found: Sequence[Parity],
    scheme: str,
    face: Interface,
    data: bytes,
    samples: Samples,
    fraction: float,
) -> None:
    bad = [entry for entry in found if not agrees(entry)]
    if not bad:
        return
    worst = max(bad, key=lambda entry: entry.rms_error / entry.bound)
    # A layer counts as wrong when it is as far off as the output may be.
    begins = first_disagreement(face.model, data, samples, fraction)
    raise ConversionError(
        f"the {scheme} file disagrees with the model: output {worst.output!r} differs by "
        f"{worst.rms_error:.3g} (root mean square; allowed {worst.bound:.3g}), correlation "
        f"{worst.correlation:.4f}, on {worst.samples} {worst.data} samples{begins}; calibrate on "
        "data like that of use, choose another scheme, or accept it with bound="
    )
