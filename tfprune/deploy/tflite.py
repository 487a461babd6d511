"""Convert a Keras model to a `.tflite` file that has been loaded and compared with the model."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfprune.deploy.auto import choose
from tfprune.deploy.convert_one import convert_one
from tfprune.deploy.converter.options import Options, Random, Rounding
from tfprune.deploy.verify.reference import check_path
from tfprune.errors import OptionError
from tfprune.graph.inputs import InputShape
from tfprune.runtime.artifact import Artifact
from tfprune.runtime.schemes import AUTO, Prefer, check_scheme
from tfprune.task.task import Task
from tfprune.utils.progress import SILENT, Progress
from tfprune.workers import pool

if TYPE_CHECKING:
    import keras
    import tf_keras


def to_tflite(
    model: "keras.Model | tf_keras.Model",
    path: str | os.PathLike[str] | None = None,
    *,
    scheme: str = "float32",
    calibration: Any = None,
    io: str | None = None,
    batch: int | None = None,
    input_signature: Any = None,
    input_shape: InputShape | None = None,
    random: Random | None = None,
    rounding: Rounding | None = None,
    layers: Mapping[str, str] | None = None,
    allow_float: Sequence[str] = (),
    bound: float | None = None,
    data: Any = None,
    prefer: Prefer | None = None,
    max_drop: float | None = None,
    task: Task | str | None = None,
    time_limit_s: float = pool.CONVERT_LIMIT_S,
    progress: Progress = SILENT,
) -> Artifact:
    """Convert a model to a `.tflite` file, and verify the file against the model.

    The conversion, the first load and the comparison happen in child processes: a crash there is
    an error here. The same model and data give the same bytes.

    Args:
        model: A built `keras.Model` or `tf_keras.Model`: sequential, functional or subclassed.
            Pruned zeros stay zero. For a model of `quantize_aware`, "int8" uses the trained
            ranges and is compared with the rounded model; the other schemes ignore them.
        path: Where to write the file; its report is written next to it as `.json`. None writes
            nothing.
        scheme: One of `SCHEMES`: "float32", "float16", "dynamic", "int8" … Or "auto": the
            candidates are built and measured, and the fastest accurate one is chosen; its report
            lists all (`tfprune.deploy.auto.choose` has more options).
        calibration: Samples of the model's input: an array, a dict or for several inputs a list
            of arrays, (inputs, labels), or a dataset or another iterable of these; labels are not
            read. "int8" needs them, unless `quantize_aware` has trained the ranges; about 200 are
            enough. The comparison uses them too.
        io: The type of float inputs and outputs in the file: for "int8" either "int8" (the
            default) or "float32".
        batch: A batch size to fix in the file. None leaves it open, except where the model has
            recurrent layers, which need it fixed: they get 1.
        input_signature: Shapes and types of the inputs of a subclassed model, when it cannot tell
            or has inputs that are not floats.
        input_shape: The shape of the input without the batch, where the model leaves sizes open:
            (16, 8) for Input((None, 8)). The file then takes this size alone: recurrent
            layers need that for "int8", which unrolls them. For several inputs
            a list in their order, or a dict from their names; None in a shape leaves a size open.
        random: What random numbers that the model draws become, such as the noise of a VAE's
            sampling layer: "mean" puts the mean of a normal or uniform distribution in their
            place. None refuses such a model.
        rounding: How weights are rounded where there is calibration data: "nearest", each by
            itself; "corrected", after ranges of channels are equalized, with biases that keep the
            means; "learned", then also chosen together, layer by layer, so that products stay as
            they are. For "int4", layers then get 8 bits where the bound needs it. None: "learned"
            for 4 bits, "nearest" otherwise. The model keeps its weights; the report has notes.
        layers: Other schemes for some layers, by regular expression on the names that `inspect`
            shows: {"dense_1/": "float32", "conv": "weight_int8"}. For the schemes that
            litert-quantizer makes: "int4", "weight_int4", "weight_int8".
        allow_float: Names of operations that may stay float in an integer plan: ["SOFTMAX"].
        bound: Allowed difference from the model instead of the scheme's own bound: root mean
            squared difference as a fraction of the output's standard deviation (at least of a
            twentieth of its largest number).
        data: For "auto": labeled samples (x, y) to score the candidates on. Without them, the score
            is the agreement with the float32 file on the calibration samples.
        task: For "auto": a `Task` or its name, whose first metric judges. None: labels decide.
        prefer: For "auto": "latency" (the default) or "size".
        max_drop: For "auto": allowed loss of the task's metric, or of agreement; by default 0.01,
            or for metrics that are not shares, a hundredth of that of the float32 file.
        time_limit_s: Seconds the conversion may take.
        progress: Receives progress reports.

    Returns:
        The file with its report.

    Raises:
        OptionError: An argument is not among the allowed values.
        ModelError: The model is not a Keras model, is not built, or takes text.
        DataError: The calibration data does not fit.
        ConversionError: The file cannot be made, cannot be run, or disagrees with the model.

    Example:
        artifact = to_tflite(model, "model.tflite", scheme="int8", calibration=x[:200])
        artifact.report.gzip_bytes
    """
    check_scheme(scheme)
    check_path(path, ".tflite")
    options = Options(
        calibration=calibration,
        io=io,
        batch=batch,
        input_signature=input_signature,
        input_shape=input_shape,
        random=random,
        rounding=rounding,
        layers=layers,
        allow_float=allow_float,
        bound=bound,
        time_limit_s=time_limit_s,
    )
    chosen = {"data": data, "prefer": prefer, "max_drop": max_drop, "task": task}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    if scheme == AUTO:
        artifact = choose(model, options, progress=progress, **chosen)
    else:
        for name in chosen:
            raise OptionError(f"{name}: only for scheme {AUTO!r}. Received scheme {scheme!r}")
        artifact = convert_one(model, scheme, options, progress=progress)
    return artifact if path is None else artifact.save(path)
