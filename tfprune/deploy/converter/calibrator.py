"""The calibrator of TensorFlow's converter, with the ranges that tensors have."""

import contextlib
import struct
from collections.abc import Iterator
from typing import Any

from tfprune.runtime.flatbuffer import Reader, Subgraph, parse

# The calibrator gives a tensor that was always zero the range up to the smallest float. A constant
# this small is the epsilon of a norm whose variance was always zero.
_ZEROS, _EPSILON = 3e-6, 1e-5
_OUTPUTS = 2
_REPLACED = ("__init__", "calibrate", "calibrate_and_quantize")


@contextlib.contextmanager
def mended_calibrator() -> Iterator[None]:
    """Calibrate to the ranges that tensors have, and that kernels compute with.

    The runtime adds and multiplies in place, and the calibrator of TensorFlow 2.21 reads a tensor
    once more after that: `relu(x)` before a BatchNormalization gets the range of the normalized
    numbers. As an output of the graph, a tensor is not written over.

    A tensor that is the same number for all samples gets a wider range. From 0 to 0, its scale
    would be so small that no kernel of XNNPACK takes it, and no bias that is stored with it fits
    into 32 bits. Around any other number, the converter lets the range begin below 0, and the
    kernel of 1 / sqrt ends the process.

    A float tensor that is only cast to integers, such as tokens that a model takes as floats, gets
    none: rounded to 256 values and cast, a number would be another one.
    """
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    plain = {name: getattr(Calibrator, name) for name in _REPLACED}

    def start(self: Any, model_content: bytes, *args: Any, **kwargs: Any) -> None:
        self._tfprune_given = (model_content, args, kwargs)
        plain["__init__"](self, with_outputs(bytes(model_content)), *args, **kwargs)

    def calibrate(self: Any, dataset_gen: Any) -> bytes:
        outputs = parse(bytes(self._tfprune_given[0])).subgraphs[0].outputs
        calibrated = bytes(plain["calibrate"](self, dataset_gen))
        return with_usable_ranges(without_outputs(calibrated, len(outputs)))

    def calibrate_and_quantize(self: Any, *args: Any, **kwargs: Any) -> bytes:
        # For activations of 16 bits; the file would keep the outputs.
        content, others, options = self._tfprune_given
        plain["__init__"](self, content, *others, **options)
        return bytes(plain["calibrate_and_quantize"](self, *args, **kwargs))

    for name, function in zip(_REPLACED, (start, calibrate, calibrate_and_quantize), strict=True):
        setattr(Calibrator, name, function)
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(Calibrator, name, function)


def with_outputs(data: bytes) -> bytes:
    """Return a file whose first graph also returns what an operation could write over.

    Example:
        Of `relu(conv(x)) * scale + offset`, the product and what it multiplies.
    """
    graph = parse(data).subgraphs[0]
    outputs = [*graph.outputs, *sorted(_written_over(graph).difference(graph.outputs))]
    edited, reader = bytearray(data), Reader(data)
    place = reader.field(reader.tables(reader.follow(0), 2)[0], _OUTPUTS)
    if place is None:
        return data
    edited += bytes(-len(edited) % 4)
    # A vector is found by its distance from the reference to it.
    struct.pack_into("<I", edited, place, len(edited) - place)
    edited += struct.pack(f"<I{len(outputs)}i", len(outputs), *outputs)
    return bytes(edited)


def without_outputs(data: bytes, count: int) -> bytes:
    """Return a file with only the first outputs of its first graph."""
    edited, reader = bytearray(data), Reader(data)
    span = reader.span(reader.tables(reader.follow(0), 2)[0], _OUTPUTS, 4)
    if span is not None:
        struct.pack_into("<I", edited, span.start - 4, count)
    return bytes(edited)


def _written_over(graph: Subgraph) -> set[int]:
    """Return the computed float tensors that are as large as what is computed from them."""
    made = {index for op in graph.ops for index in op.outputs}
    return {
        index
        for op in graph.ops
        for index in made.intersection(op.inputs)
        if graph.tensors[index].dtype == "float32"
        and any(
            (graph.tensors[out].shape, graph.tensors[out].dtype)
            == (graph.tensors[index].shape, "float32")
            for out in op.outputs
        )
    }


def with_usable_ranges(data: bytes) -> bytes:
    """Return a calibrated file without ranges that the converter or a kernel cannot use."""
    edited, reader = bytearray(data), Reader(data)
    graphs = reader.tables(reader.follow(0), 2)
    for graph, parsed in zip(graphs, parse(data).subgraphs, strict=True):
        cast = {index for op in parsed.ops if op.name == "CAST" for index in op.inputs}
        cast -= {index for op in parsed.ops if op.name != "CAST" for index in op.inputs}
        for index, tensor in enumerate(reader.tables(graph, 0)):
            table = reader.table(tensor, 4)
            if table is None:
                continue
            if index in cast:
                for field in (0, 1):
                    if (span := reader.span(table, field, 4)) is not None:
                        struct.pack_into("<I", edited, span.start - 4, 0)
                continue
            low, high = (reader.vector(table, field, "<f4") for field in (0, 1))
            span = reader.span(table, 1, 4)
            if span is None or high.size != 1:
                continue
            largest, below = max(*abs(low), *abs(high)), reader.span(table, 0, 4)
            constant = below is not None and low[0] == high[0] > 0
            if constant and below is not None:
                struct.pack_into("<f", edited, below.start, 0.0)
            if largest < (_EPSILON if constant else _ZEROS):
                struct.pack_into("<f", edited, span.start, 1.0)
    return bytes(edited)
