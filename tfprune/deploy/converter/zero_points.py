"""Integer matrix products whose second factor has zero point 0.

XNNPACK in TensorFlow 2.21 and ai-edge-litert 2.0 to 2.1.2 ignores the zero point of that factor,
so attention comes out shifted. A file in which it is 0 is computed correctly by all versions.
"""

import struct

from tfprune.runtime.flatbuffer import Op, Reader, Subgraph, parse

# Their output has the numbers of their input, with the same scale and zero point.
_MOVING = frozenset({
    "CONCATENATION", "EXPAND_DIMS", "GATHER", "PACK", "RESHAPE", "SLICE", "SPLIT", "SQUEEZE",
    "STRIDED_SLICE", "TILE", "TRANSPOSE", "UNPACK",
})  # fmt: skip
# These round their output with any scale and zero point …
_ROUNDING = frozenset({
    "ADD", "BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN", "MUL",
    "QUANTIZE", "SUB",
})  # fmt: skip
# … and these read any. A layer with a bias does not: its bias has the scale of its input.
_READING = frozenset({"ADD", "BATCH_MATMUL", "DEQUANTIZE", "MEAN", "MUL", "QUANTIZE", "SUB"})


def center_second_factors(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the file with zero point 0 for the second factors of 8-bit matrix products.

    The scale becomes a little larger, so that the same numbers fit. The tensors between the factor
    and the operation that rounds it change alike. The length of the file stays the same.

    Args:
        data: A `.tflite` file.

    Returns:
        The file, and the names of the factors that could not be changed: constants, inputs, and
        tensors of operations with a fixed scale.
    """
    contents = parse(data)
    edited, reader = bytearray(data), Reader(data)
    tables = reader.tables(reader.follow(0), 2)
    left: list[str] = []
    for graph, table in zip(contents.subgraphs, tables, strict=True):
        stored = {i for i, tensor in enumerate(graph.tensors) if len(contents.raw(tensor))}
        entries = reader.tables(table, 0)
        done: set[int] = set()
        for op in graph.ops:
            if op.name != "BATCH_MATMUL" or op.inputs[1] in done:
                continue
            factor = graph.tensors[op.inputs[1]]
            if factor.dtype != "int8" or len(factor.scales) != 1 or not any(factor.zero_points):
                continue
            group = _group(graph, op.inputs[1])
            if group & stored or not _is_free(graph, group):
                left.append(factor.name)
                continue
            done |= group
            zero = factor.zero_points[0]
            scale = factor.scales[0] * max(128 + zero, 127 - zero) / 127
            for index in group:
                _write(edited, reader, entries[index], scale)
    return bytes(edited), tuple(dict.fromkeys(left))


def _moved(op: Op, graph: Subgraph) -> list[int]:
    """Return the tensors of a moving operation that have one scale: not its sizes and axes."""
    return [i for i in (*op.inputs, *op.outputs) if i >= 0 and graph.tensors[i].scales]


def _group(graph: Subgraph, start: int) -> set[int]:
    """Return the tensors that hold the same numbers as one, moved."""
    found, grown = {start}, True
    while grown:
        size = len(found)
        for op in graph.ops:
            if op.name in _MOVING and found.intersection(moved := _moved(op, graph)):
                found.update(moved)
        grown = len(found) > size
    return found


def _is_free(graph: Subgraph, group: set[int]) -> bool:
    """Return whether the scale of a group of tensors may change."""
    tensors = [graph.tensors[index] for index in group]
    rounded = {(tensor.dtype, tensor.scales, tensor.zero_points) for tensor in tensors}
    if len(rounded) > 1 or any(tensor.variable for tensor in tensors):
        return False
    made: set[int] = set()
    for op in graph.ops:
        made.update(op.outputs)
        if op.name in _MOVING:
            continue
        if group.intersection(op.outputs) and op.name not in _ROUNDING:
            return False
        if group.intersection(op.inputs) and op.name not in _READING:
            return False
    return group <= made and not group.intersection((*graph.inputs, *graph.outputs))


def _write(edited: bytearray, reader: Reader, tensor: int, scale: float) -> None:
    """Set the scale and the zero point 0 of a tensor."""
    table = reader.table(tensor, 4)
    scales = None if table is None else reader.span(table, 2, 4)
    zero_points = None if table is None else reader.span(table, 3, 8)
    if scales is None or zero_points is None:
        raise ValueError("a rounded tensor without scale or zero point")
    struct.pack_into("<f", edited, scales.start, scale)
    struct.pack_into("<q", edited, zero_points.start, 0)
