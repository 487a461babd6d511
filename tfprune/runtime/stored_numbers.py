"""Quantization of real numbers in a `.tflite` file."""

from collections.abc import Iterable, Iterator

import numpy as np

from tfprune.runtime import flatbuffer
from tfprune.runtime.artifact import TensorSpec
from tfprune.runtime.flatbuffer import Contents


def quantize(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Return real numbers as the file stores them; halves are rounded away from 0."""
    dtype = np.dtype(spec.dtype)
    if not spec.scale:
        return array.astype(dtype)
    steps = array.astype(np.float64) / spec.scale
    rounded = np.trunc(steps + np.copysign(0.5, steps)) + spec.zero_point
    limits = np.iinfo(dtype)
    return np.clip(rounded, limits.min, limits.max).astype(dtype)


def value_range(spec: TensorSpec) -> tuple[float, float]:
    """Return the smallest and the largest real number of an integer tensor."""
    limits = np.iinfo(np.dtype(spec.dtype))
    low, high = (spec.scale * (int(end) - spec.zero_point) for end in (limits.min, limits.max))
    return low, high


def dequantize(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Return the real numbers (float32) of stored ones; others are not changed."""
    if not spec.scale:
        return array
    return ((array.astype(np.float32) - spec.zero_point) * np.float32(spec.scale)).astype(
        np.float32
    )


def tensor_spec(tensor: flatbuffer.Tensor, name: str = "") -> TensorSpec:
    """Return how a tensor of a file stores real numbers."""
    quantized = len(tensor.scales) == 1
    return TensorSpec(
        name=name or tensor.name,
        shape=tensor.signature,
        dtype=tensor.dtype,
        scale=tensor.scales[0] if quantized else 0.0,
        zero_point=tensor.zero_points[0] if quantized and tensor.zero_points else 0,
    )


def specs(contents: Contents) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and the outputs of a file, in order.

    Names are those of its signature, or of the tensors if it has none. A tensor that is several
    outputs has a name for each.
    """
    graph = contents.subgraphs[0]
    signature = next((entry for entry in contents.signatures if entry.subgraph == 0), None)

    def describe(indices: Iterable[int], names: Iterable[tuple[str, int]]) -> Iterator[TensorSpec]:
        by_index: dict[int, list[str]] = {}
        for name, index in names:
            by_index.setdefault(index, []).append(name)
        for index in indices:
            tensor, left = graph.tensors[index], by_index.get(index)
            yield tensor_spec(tensor, left.pop(0) if left else tensor.name)

    return (
        tuple(describe(graph.inputs, signature.inputs if signature else ())),
        tuple(describe(graph.outputs, signature.outputs if signature else ())),
    )
