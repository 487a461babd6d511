"""A Keras model as an ONNX file, for ONNX Runtime, TensorRT and DeepSparse."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfprune.deploy.converter.calibrate import Samples
from tfprune.deploy.converter.error_hints import explain_failure
from tfprune.deploy.converter.export import export, full_precision
from tfprune.deploy.converter.options import (
    Random,
    check_bound,
    check_random,
    check_time_limit,
)
from tfprune.deploy.converter.rewrites.rewrite import rewrite_for_onnx
from tfprune.deploy.onnx.convert import convert_onnx_job
from tfprune.deploy.onnx.layout import products
from tfprune.deploy.qat.quantize_aware import is_quantize_aware, strip_quantization
from tfprune.deploy.verify.causes import batch_matters
from tfprune.deploy.verify.parity import check_agreement, parity
from tfprune.deploy.verify.reference import (
    check_path,
    draw,
    file_outputs,
    model_outputs,
    some,
    versions,
)
from tfprune.errors import ConversionError, OptionError, TfpruneError
from tfprune.graph.inputs import InputShape
from tfprune.graph.model_signature import Interface, check_batch, interface
from tfprune.runtime import onnx
from tfprune.runtime.artifact import (
    Artifact,
    ConversionReport,
    Parity,
    TensorSpec,
    gzip_bytes,
    sha256,
    spec_of,
)
from tfprune.runtime.onnx import ENDING
from tfprune.storage.scratch import scratch_folder
from tfprune.utils.extras import require
from tfprune.utils.progress import SILENT, Progress
from tfprune.workers import pool

if TYPE_CHECKING:
    import keras
    import tf_keras

OPSETS = range(13, 19)
"""Versions of the ONNX operators that tf2onnx and ONNX Runtime support."""

BOUND = 1e-3
"""Allowed difference from the model: the same as for a float32 `.tflite`."""


def to_onnx(
    model: "keras.Model | tf_keras.Model",
    path: str | os.PathLike[str] | None = None,
    *,
    calibration: Any = None,
    batch: int | None = None,
    input_signature: Any = None,
    input_shape: InputShape | None = None,
    random: Random | None = None,
    opset: int = 15,
    bound: float = BOUND,
    time_limit_s: float = pool.CONVERT_LIMIT_S,
    progress: Progress = SILENT,
) -> Artifact:
    """Convert a model to an ONNX file, and verify the file in ONNX Runtime.

    Weights stay 32-bit floats and zeros stay in place: weights pruned 2:4 are 2:4 in the file along
    the axis over which TensorRT's and PyTorch's semi-structured kernels sum, and the report counts
    them.

    Args:
        model: A built `keras.Model` or `tf_keras.Model`: sequential, functional or subclassed.
            A model of `quantize_aware` is converted without its rounding.
        path: Where to write the file, and its report next to it as `NAME.onnx.json`. None writes
            nothing.
        calibration: Samples of the model's input to compare on, in any of the forms that
            `to_tflite` takes. None compares on random ones.
        batch: A batch size to fix in the file, for DeepSparse and TensorRT. None leaves it
            open.
        input_signature: Shapes and types of the inputs of a subclassed model, when it cannot tell.
        input_shape: The shape of the input without the batch, where the model leaves sizes open, as
            in `to_tflite`.
        random: What random numbers that the model draws become, as in `to_tflite`.
        opset: The version of the ONNX operators: 13 to 18.
        bound: Allowed difference from the model: root mean squared difference as a fraction
            of the output's standard deviation (at least of a twentieth of its largest number).
        time_limit_s: Seconds the conversion may take.
        progress: Receives progress reports.

    Returns:
        The file with its report, whose scheme is "onnx".

    Raises:
        OptionError: An argument is not among the allowed values, or the extra `onnx` is missing.
        ModelError: The model is not a Keras model, is not built, or takes text.
        DataError: The samples do not fit the model.
        ConversionError: The file cannot be converted or run, or disagrees with the model.

    Example:
        to_onnx(model, "model.onnx").report.parity
    """
    require("to_onnx", "onnx", "tf2onnx", "onnx", "onnxruntime")
    check_path(path, ENDING)
    check_batch(batch)
    if isinstance(opset, bool) or opset not in OPSETS:
        raise OptionError(f"opset: expected {OPSETS[0]} to {OPSETS[-1]}. Received {opset!r}")
    check_bound(bound)
    check_random(random)
    check_time_limit(time_limit_s)
    notes: list[str] = []
    if is_quantize_aware(model):
        model = strip_quantization(model)
        notes.append("the rounding of quantize_aware is removed: the file computes in floats")
    face = replace(
        interface(model, input_signature, calibration, input_shape), mean_draws=random == "mean"
    )
    samples, origin = draw(face, calibration, notes)
    compared = some(samples)
    with progress.task("convert to ONNX", 3) as task, full_precision(model) as lowered:
        if lowered:
            notes.append("the model trains in 16-bit floats; the file computes in 32-bit ones")
        data, outputs = _convert(face, batch, opset, time_limit_s)
        task.advance()
        actual, specs = _run(data, compared, time_limit_s)
        task.advance()
        expected = model_outputs(face, compared, batch)
        task.advance()
    found = tuple(
        parity(name, expected[name], actual[name], data=origin, fraction=bound) for name in outputs
    )
    check_agreement(
        found,
        "the ONNX file",
        "compare on representative data (calibration=)",
        lambda: batch_matters(face, compared, expected) if batch is None else "",
    )
    notes += _layout(data)
    used = versions(model, ["tf2onnx", "onnx", "onnxruntime"])
    report = _report(data, specs, used, found, notes)
    artifact = Artifact(data, None, report)
    return artifact if path is None else artifact.save(path)


def _convert(
    face: Interface, batch: int | None, opset: int, limit_s: float
) -> tuple[bytes, tuple[str, ...]]:
    """Return the file and the names of the outputs in the model's order."""
    name = face.model.name
    with scratch_folder() as folder:
        saved, target = Path(folder, "saved_model"), Path(folder, f"model{ENDING}")
        try:
            outputs = export(face, saved, batch=batch)
            rewrite_for_onnx(saved)
        except TfpruneError:
            raise
        except (ValueError, TypeError, RuntimeError, AssertionError, AttributeError) as error:
            # The user's own layers run here, as a graph, and may fail in any of these ways.
            raise ConversionError(
                f"model {name!r} cannot be traced for ONNX: {explain_failure(str(error))}"
            ) from error
        try:
            pool.run_job(
                convert_onnx_job,
                str(saved),
                str(target),
                [spec.name for spec in face.inputs],
                list(outputs),
                opset,
                limit_s=limit_s,
                kind="converter",
            )
        except pool.ChildError as error:
            raise ConversionError(
                f"model {name!r} cannot be converted to ONNX: {explain_failure(str(error))}"
            ) from None
        return target.read_bytes(), outputs


def _run(
    data: bytes, samples: Samples, limit_s: float
) -> tuple[dict[str, np.ndarray], tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]]:
    """Return the outputs of the file, and its input and output specs."""
    try:
        specs, outputs = file_outputs(onnx.run_onnx, data, ENDING, samples, limit_s)
    except pool.ChildError as error:
        raise ConversionError(
            f"the ONNX file was converted but ONNX Runtime fails on it: {error}"
        ) from None
    takes, gives = (tuple(map(spec_of, entries)) for entries in specs)
    return outputs, (takes, gives)


def _layout(data: bytes) -> list[str]:
    found = products(data)
    holed = [entry for entry in found if entry.two_in_four]
    if not holed:
        return []
    return [
        f"{len(holed)} of {len(found)} weights of matrix products and convolutions are 2:4 along "
        "the axis that is summed over"
    ]


def _report(
    data: bytes,
    specs: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]],
    found_versions: dict[str, str],
    found: tuple[Parity, ...],
    notes: Sequence[str],
) -> ConversionReport:
    import onnx

    nodes = onnx.ModelProto.FromString(data).graph.node
    return ConversionReport(
        scheme="onnx",
        io="float32",
        versions=found_versions,
        sha256=sha256(data),
        raw_bytes=len(data),
        gzip_bytes=gzip_bytes(data),
        ops=dict(sorted(Counter(node.op_type for node in nodes).items())),
        inputs=specs[0],
        outputs=specs[1],
        parity=found,
        notes=tuple(notes),
    )
