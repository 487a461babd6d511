"""Where a file begins to disagree with its Keras model: a table, layer by layer."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfprune.deploy import child, flatbuffer, runtime
from tfprune.deploy.arrays import load_arrays, save_arrays
from tfprune.deploy.calibrate import calibration_samples
from tfprune.deploy.export import Interface, full_precision, interface, symbolic_inputs
from tfprune.deploy.parity import scale_of
from tfprune.errors import ConversionError, ModelError, type_name

_SAMPLES = 4


@dataclass(frozen=True)
class LayerParity:
    """One layer of the model beside the tensor of the file that is nearest to it.

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
        unmatched: The others: the converter made them part of one.
    """

    rows: tuple[LayerParity, ...]
    unmatched: tuple[str, ...]

    def begins(self, error: float) -> LayerParity | None:
        """Return the first layer that is off by more than `error`, if there is one."""
        return next((row for row in self.rows if row.error > error), None)

    def to_text(self) -> str:
        """Return the table as text."""
        width = max([len(row.layer) for row in self.rows] + [len("layer")])
        lines = [f"{'layer'.ljust(width)}     error  correlation  tensor"]
        lines += [
            f"{row.layer.ljust(width)}  {row.error:8.4f}  {row.correlation:11.4f}  {row.tensor}"
            for row in self.rows
        ]
        if self.unmatched:
            lines.append(f"part of another: {', '.join(self.unmatched)}")
        return "\n".join(lines)


def compare_layers(model: keras.Model, source: runtime.Source, samples: Any) -> LayerTable:
    """Compare every layer of a model with a file made of it.

    A tensor of the file does not tell its layer reliably, once the converter has fused and renamed:
    a layer and a tensor of its shape belong together if each is the nearest to the other. A
    convolution whose BatchNormalization was folded into it has none, and that is said. The file
    runs without the delegate that the default runtime uses, which keeps no tensors between.

    Args:
        model: A functional or sequential `keras.Model`.
        source: The file: an artefact, bytes, or a path.
        samples: Data of the model's input; the first few are used.

    Raises:
        ModelError: The layers of the model are not known, as it is subclassed.
        ArtefactError: The file is missing or damaged.
        ConversionError: The runtime fails on it.

    Example:
        print(compare_layers(model, artefact, x[:4]).to_text())
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ModelError(f"expected a functional or sequential keras.Model, got {type_name(model)}")
    data, where = runtime.read_source(source)
    contents = flatbuffer.parse(data, where)
    face = interface(model)
    arrays, _ = calibration_samples(samples, face.inputs, limit=_SAMPLES)
    with full_precision(model):
        layers = _layer_outputs(face, arrays)
    tensors = _file_tensors(data, arrays)
    names = [tensor.name for tensor in contents.subgraphs[0].tensors]
    errors = _errors(layers, tensors)
    rows, unmatched = [], []
    for name, expected in layers.items():
        index = _nearest(name, errors)
        if index is None:
            unmatched.append(name)
            continue
        similar = _correlation(expected, tensors[index])
        rows.append(LayerParity(name, names[index], errors[name][index], similar))
    return LayerTable(tuple(rows), tuple(unmatched))


def _file_tensors(data: bytes, samples: Mapping[str, np.ndarray]) -> dict[int, np.ndarray]:
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        paths = [str(Path(folder, name)) for name in ("model.tflite", "in.npz", "out.npz")]
        Path(paths[0]).write_bytes(data)
        save_arrays(paths[1], samples)
        try:
            child.run_job("tfprune.deploy.worker:trace", *paths, limit_s=child.LOAD_LIMIT_S)
        except child.ChildError as error:
            text = " ".join(str(error).split())
            raise ConversionError(f"the runtime cannot show the tensors between: {text}") from None
        return {int(index): value for index, value in load_arrays(paths[2]).items()}


def _layer_outputs(face: Interface, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    model = face.model
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    symbols = {
        operation.name: operation.output
        for operation in model.operations
        if type(operation).__name__ != "InputLayer"
        and isinstance(operation.output, keras.KerasTensor)
        and operation.output.dtype.startswith("float")
    }
    inner = keras.Model(symbolic_inputs(face.model), list(symbols.values()))
    values = inner(face.arguments(arrays), training=False)
    values = values if isinstance(values, list | tuple) else [values]
    return {name: np.asarray(value) for name, value in zip(symbols, values, strict=True)}


def _errors(
    layers: Mapping[str, np.ndarray], tensors: Mapping[int, np.ndarray]
) -> dict[str, dict[int, float]]:
    """How far each layer's output lies from each tensor of its shape."""
    return {
        name: {i: _error(wanted, got) for i, got in tensors.items() if got.shape == wanted.shape}
        for name, wanted in layers.items()
    }


def _nearest(layer: str, errors: Mapping[str, Mapping[int, float]]) -> int | None:
    """Return the tensor nearest to a layer, if no other layer is nearer to it."""
    index = min(errors[layer], key=errors[layer].__getitem__, default=None)
    if index is None:
        return None
    rivals = (other.get(index, np.inf) for name, other in errors.items() if name != layer)
    return None if min(rivals, default=np.inf) < errors[layer][index] else index


def _error(expected: np.ndarray, actual: np.ndarray) -> float:
    return float(np.sqrt(np.mean((expected - actual) ** 2))) / (scale_of(expected) or 1.0)


def _correlation(expected: np.ndarray, actual: np.ndarray) -> float:
    a, b = expected.ravel() - expected.mean(), actual.ravel() - actual.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else 0.0


def first_disagreement(
    model: Any, data: bytes, samples: Mapping[str, np.ndarray], error: float
) -> str:
    """Return a clause for an error message: where a file begins to disagree, if that is known."""
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        return ""
    try:
        row = compare_layers(model, data, dict(samples)).begins(error)
    except ConversionError:
        return ""
    if row is None:
        return ""
    return f"; it begins at layer {row.layer!r}, off by {row.error:.2g} of its scale"
