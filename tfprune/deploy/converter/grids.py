"""Weights that are whole multiples of few steps, stored without a further rounding.

A converter gives the largest weight of a channel the largest integer: 127, or 7 in 4 bits. So it
rounds weights that already are multiples of another step, such as those of
`prune_oneshot(bits=3)`, once more. Here such channels get their own step.
"""

import math
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tfprune.runtime.flatbuffer import Contents, Op, Reader, Subgraph, Tensor, parse

MOST = 7
"""The largest multiple, as in 4 bits. In 8 bits, more of them would not be told from others."""

_SLACK = 1e-5  # of float32, after products with the factors of a BatchNormalization
_INTEGERS = {"int8": 127, "int4": 7}
_BIASES = {"int32": "<i4", "int64": "<i8"}
# They read weights with any scale; a bias has that of the weights times that of the input.
_PRODUCTS = frozenset({
    "BATCH_MATMUL", "CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "DEQUANTIZE", "FULLY_CONNECTED",
    "TRANSPOSE_CONV",
})  # fmt: skip


def multiples(rows: NDArray, slack: float) -> NDArray[np.int64]:
    """Return the smallest number of steps that make the largest weight of each row.

    It is 0 for a row whose weights are not multiples of a step, or of more than `MOST`.

    Args:
        rows: The weights of a channel each.
        slack: How far a weight may be from a multiple, as a fraction of the largest weight.

    Example:
        >>> rows = np.array([[0.5, 1.0, -1.5], [0.0, 2.0, 2.0], [0.0, 0.0, 0.0], [1.0, 0.1, 0.61]])
        >>> multiples(rows, slack=1e-4).tolist()
        [3, 1, 1, 0]
    """
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    share = rows / np.where(largest > 0, largest, 1.0)
    found = np.zeros(len(rows), np.int64)
    for count in range(MOST, 0, -1):
        distance = np.abs(share * count - np.rint(share * count)).max(axis=1, initial=0.0)
        found = np.where(distance <= slack * count, count, found)
    return found


def is_on_grid(kernel: NDArray, outputs: Sequence[int]) -> bool:
    """Return whether the weights of each output are multiples of few steps.

    Args:
        kernel: The weights.
        outputs: Its axes of outputs.
    """
    rows = np.moveaxis(kernel, outputs, range(len(outputs)))
    count = math.prod(rows.shape[: len(outputs)])
    return bool(multiples(rows.reshape(count, -1).astype(np.float64), _SLACK).all())


def keep_grids(data: bytes, source: bytes | None) -> tuple[bytes, int]:
    """Return the file with exact weights where they are multiples of few steps, and their number.

    The biases that are stored with the scale of such weights change alike. The length of the file
    stays the same.

    Args:
        data: A `.tflite` file with integer weights.
        source: The file of floats that it was made from, if its weights have less than 8 bits;
            8 bits are enough to tell.
    """
    contents, edited, count = parse(data), bytearray(data), 0
    floats = {} if source is None else _floats(parse(source))
    reader = Reader(data)
    tables = [reader.tables(graph, 0) for graph in reader.tables(reader.follow(0), 2)]
    sharing = Counter(tensor.buffer for graph in contents.subgraphs for tensor in graph.tensors)
    for graph, entries in zip(contents.subgraphs, tables, strict=True):
        for index in range(len(graph.tensors)):
            changes = _changes(contents, graph, index, floats)
            if not changes or not all(
                sharing[graph.tensors[i].buffer] == 1
                or contents.raw(graph.tensors[i]) == change.data
                for i, change in changes.items()
            ):
                continue
            count += 1
            for i, change in changes.items():
                start = contents.buffers[graph.tensors[i].buffer].start
                edited[start : start + len(change.data)] = change.data
                _write_scales(edited, reader, entries[i], change.scales)
    return bytes(edited), count


@dataclass(frozen=True)
class _Stored:
    """The integers of a tensor as bytes, and its scales."""

    data: bytes
    scales: NDArray[np.float32]


def _floats(contents: Contents) -> dict[str, NDArray]:
    return {
        tensor.name: np.frombuffer(contents.raw(tensor), "<f4").reshape(tensor.shape)
        for graph in contents.subgraphs
        for tensor in graph.tensors
        if tensor.dtype == "float32" and len(contents.raw(tensor)) and not tensor.sparse
    }


def _changes(
    contents: Contents, graph: Subgraph, index: int, floats: Mapping[str, NDArray]
) -> dict[int, _Stored]:
    """Return how a tensor of weights and its biases are stored exactly; nothing if they are not."""
    readers = [op for op in graph.ops if index in op.inputs]
    if not readers or any(op.name not in _PRODUCTS for op in readers):
        return {}
    weights = _on_grid(contents, graph.tensors[index], floats)
    if weights is None:
        return {}
    changes = {index: weights}
    before = np.array(graph.tensors[index].scales)
    for i in {i for op in readers for i in _bias_of(op, graph.tensors)}:
        bias = graph.tensors[i]
        alone = all(op in readers for op in graph.ops if i in op.inputs)
        if not alone or len(bias.scales) != before.size:
            return {}
        scales = (np.array(bias.scales) / before * weights.scales).astype(np.float32)
        integers = np.frombuffer(contents.raw(bias), _BIASES[bias.dtype])
        moved = np.rint(integers * (np.array(bias.scales) / scales))
        changes[i] = _Stored(moved.astype(_BIASES[bias.dtype]).tobytes(), scales)
    return changes


def _on_grid(contents: Contents, tensor: Tensor, floats: Mapping[str, NDArray]) -> _Stored | None:
    """Return how a tensor is stored exactly; None if it is not on a grid, or has no weights."""
    most = _INTEGERS.get(tensor.dtype)
    if most is None or not tensor.scales or any(tensor.zero_points) or tensor.sparse:
        return None
    if not len(contents.raw(tensor)) or len(tensor.shape) < 2:
        return None
    if tensor.name in floats and floats[tensor.name].shape == tensor.shape:
        values, slack = _rows(floats[tensor.name], tensor).astype(np.float64), _SLACK
    elif tensor.dtype == "int8":
        stored = np.frombuffer(contents.raw(tensor), np.int8).reshape(tensor.shape)
        scales = np.array(tensor.scales)[:, None]
        values, slack = _rows(stored, tensor) * scales, 0.505 / most
    else:
        return None
    steps = multiples(values, slack)[:, None]
    if not steps.all():
        return None
    largest, times = np.abs(values).max(axis=1, keepdims=True), most // steps
    # A channel of zeros has any scale but 0; its bias has that of now.
    scales = np.where(largest > 0, largest / (steps * times), np.array(tensor.scales)[:, None])
    rows = times * np.rint(values / (scales * times)).astype(np.int64)
    return _Stored(_packed(_unrows(rows, tensor), tensor.dtype), scales[:, 0].astype(np.float32))


def _rows(array: NDArray, tensor: Tensor) -> NDArray:
    if len(tensor.scales) == 1:
        return array.reshape(1, -1)
    return np.moveaxis(array, tensor.axis, 0).reshape(len(tensor.scales), -1)


def _unrows(rows: NDArray, tensor: Tensor) -> NDArray:
    if len(tensor.scales) == 1:
        return rows.reshape(tensor.shape)
    rest = [size for axis, size in enumerate(tensor.shape) if axis != tensor.axis]
    return np.moveaxis(rows.reshape(len(rows), *rest), 0, tensor.axis)


def _packed(array: NDArray, dtype: str) -> bytes:
    """Return integers as bytes; of two with 4 bits, the first is in the lower half."""
    flat = array.astype(np.int8).ravel()
    if dtype == "int8":
        return flat.tobytes()
    pairs = np.pad(flat.view(np.uint8) & 15, (0, flat.size % 2)).reshape(-1, 2)
    return (pairs[:, 0] | pairs[:, 1] << 4).astype(np.uint8).tobytes()


def _bias_of(op: Op, tensors: tuple[Tensor, ...]) -> Iterator[int]:
    for i in op.inputs[2:]:
        if i >= 0 and tensors[i].dtype in _BIASES and tensors[i].scales:
            yield i


def _write_scales(
    edited: bytearray, reader: Reader, tensor: int, scales: NDArray[np.float32]
) -> None:
    table = reader.table(tensor, 4)
    span = None if table is None else reader.span(table, 2, 4)
    if span is None:
        raise ValueError("a rounded tensor without scales")
    struct.pack_into(f"<{scales.size}f", edited, span.start, *scales)
