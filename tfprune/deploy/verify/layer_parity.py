"""Comparison of a file with its Keras model, layer by layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfprune.data.model_comparison import correlation, rms_share
from tfprune.deploy.converter.calibrate import Samples, calibration_samples
from tfprune.deploy.converter.export import called, full_precision
from tfprune.deploy.qat.rounding.ranges import traced_for_the_converter
from tfprune.deploy.verify.reference import file_outputs, has_graph
from tfprune.errors import ConversionError, ModelError, type_name
from tfprune.graph.graph import Call
from tfprune.graph.model_signature import Interface, interface
from tfprune.graph.read import read
from tfprune.graph.rebuild import execute, perform
from tfprune.keras_support.models import refuse_quantized
from tfprune.runtime import flatbuffer, jobs, litert, stored_numbers
from tfprune.utils.text_table import aligned
from tfprune.workers import pool

_SAMPLES = 4
# Outputs of two operations closer than this count as equal.
_SAME = 1e-4


@dataclass(frozen=True)
class LayerParity:
    """One layer of the model and the tensor of the file that holds its output.

    Attributes:
        layer: The layer's name.
        tensor: The tensor's name in the file.
        error: Root mean squared difference, as a fraction of `scale_of` the layer's output.
        correlation: Pearson's.
    """

    layer: str
    tensor: str
    error: float
    correlation: float


@dataclass(frozen=True)
class LayerTable:
    """All layers that have a tensor of their own in the file, in the order of the model.

    Attributes:
        rows: One for each such layer.
        unmatched: The others, which the converter fused into another layer.
    """

    rows: tuple[LayerParity, ...]
    unmatched: tuple[str, ...]

    def begins(self, error: float) -> LayerParity | None:
        """Return the first layer whose error exceeds `error`, if there is one."""
        return next((row for row in self.rows if row.error > error), None)

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """Return the table as text."""
        head = ("layer", "error", "correlation", "tensor")
        rows = [(r.layer, f"{r.error:.4f}", f"{r.correlation:.4f}", r.tensor) for r in self.rows]
        lines = aligned([head, *rows], right=(1, 2))
        if self.unmatched:
            lines.append(f"fused into another layer: {', '.join(self.unmatched)}")
        return "\n".join(lines)


def compare_layers(model: keras.Model, source: litert.Source, samples: Any) -> LayerTable:
    """Compare every layer of a model with a file converted from it.

    A tensor of the file is named after the operations of the model that it replaces: it holds the
    output of the last of them, and is matched to the layers with the same output. A convolution
    with a folded BatchNormalization has no such tensor and is listed as unmatched. The file runs
    without the default delegate, which keeps no intermediate tensors.

    Args:
        model: A functional or sequential `keras.Model`.
        source: The file: an artifact, bytes, or a path.
        samples: Data of the model's input; the first few are used.

    Raises:
        ModelError: The model is subclassed, so its layers are not known.
        ArtifactError: The file is missing or damaged.
        ConversionError: The runtime fails on it.

    Example:
        print(compare_layers(model, artifact, x[:4]).to_text())
    """
    if not has_graph(model):
        raise ModelError(
            f"expected a functional or sequential keras.Model. Received {type_name(model)}"
        )
    refuse_quantized(model)
    data, where = litert.read_source(source)
    contents = flatbuffer.parse(data, where)
    face = interface(model)
    graph, (takes, gives) = contents.subgraphs[0], stored_numbers.specs(contents)
    names = {index: graph.tensors[index].name for op in graph.ops for index in op.outputs}
    arrays, _ = calibration_samples(samples, face.inputs, limit=_SAMPLES)
    fixed = max(spec.shape[0] for spec in (*face.inputs, *takes))
    if fixed > 0:
        arrays = {key: np.resize(x, (fixed, *x.shape[1:])) for key, x in arrays.items()}
    with full_precision(model):
        layers = _layer_outputs(face, arrays)
        outputs, operations = _operations(face, arrays, names)
    # The outputs of a file have names of their own.
    by_index = {i: spec.name for i, spec in zip(graph.outputs, gives, strict=True)}
    operations |= {i: outputs[name] for i, name in by_index.items() if name in outputs}
    tensors = _file_tensors(data, arrays)
    rows, unmatched = [], []
    for name, wanted in layers.items():
        found = {
            index: rms_share(wanted, tensors[index])
            for index, value in operations.items()
            if index in tensors
            and wanted.shape == value.shape == tensors[index].shape
            and rms_share(wanted, value) <= _SAME
        }
        if not found:
            unmatched.append(name)
            continue
        index = min(found, key=found.__getitem__)
        similar = correlation(wanted, tensors[index])
        rows.append(LayerParity(name, names[index], found[index], similar))
    return LayerTable(tuple(rows), tuple(unmatched))


def _file_tensors(data: bytes, samples: Samples) -> dict[int, np.ndarray]:
    try:
        _, tensors = file_outputs(jobs.trace, data, ".tflite", samples, pool.LOAD_LIMIT_S)
    except pool.ChildError as error:
        raise ConversionError(
            f"the runtime cannot return the intermediate tensors: {error}"
        ) from None
    return {int(index): value for index, value in tensors.items()}


def _layer_outputs(face: Interface, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the output of the first call of each layer that gives one float tensor."""
    graph = read(face.model, lambda op: True)
    found: dict[str, np.ndarray] = {}

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = perform(call.op, args, kwargs)
        if len(call.outputs) == 1 and graph.dtype(call.outputs[0]).startswith("float"):
            found.setdefault(call.op.name, np.asarray(keras.tree.flatten(made)[0]))
        return made

    execute(graph, keras.tree.flatten(face.arguments(arrays)), run)
    return found


def _operations(
    face: Interface, arrays: Mapping[str, np.ndarray], names: Mapping[int, str]
) -> tuple[dict[str, np.ndarray], dict[int, np.ndarray]]:
    """Return the outputs of a model, and its values for the tensors of a file."""
    import tensorflow as tf

    @tf.function(autograph=False)
    def trace(arrays: Mapping[str, Any]) -> Any:
        outputs = called(face, arrays)
        inside = tf.compat.v1.get_default_graph().get_operations()
        order = {operation.name: i for i, operation in enumerate(inside)}
        last = {index: _last(name.split(";"), order) for index, name in names.items()}
        made = {i: inside[at].outputs for i, at in last.items() if at is not None}
        return outputs, {i: x[0] for i, x in made.items() if len(x) == 1 and x[0].dtype.is_floating}

    with traced_for_the_converter():
        found = trace({name: tf.constant(array) for name, array in arrays.items()})
    outputs, made = ({key: np.asarray(x) for key, x in part.items()} for part in found)
    return outputs, made


def _last(parts: Sequence[str], order: Mapping[str, int]) -> int | None:
    """Return the position of the last operation in a tensor's name."""
    places = [order[name] for name in (_known(part, order) for part in parts) if name]
    return max(places, default=None)


def _known(name: str, order: Mapping[str, int]) -> str:
    """Return the operation in a part of a name: the converter may add a number to it."""
    while name and name not in order:
        name = name[:-1] if name[-1].isdigit() else ""
    return name


def first_disagreement(
    model: Any, data: bytes, samples: Mapping[str, np.ndarray], error: float
) -> str:
    """Return a clause for an error message: the first layer that disagrees, if known."""
    if not has_graph(model):
        return ""
    try:
        row = compare_layers(model, data, dict(samples)).begins(error)
    except ConversionError:
        return ""
    if row is None:
        return ""
    return f"; the first such layer is {row.layer!r}, with an error of {row.error:.2g} of its scale"
