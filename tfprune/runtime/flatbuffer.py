"""The contents of a `.tflite` file, read with every offset checked.

An untrusted file may be truncated, damaged or hostile. This reader never trusts an offset, a length
or an index: every fault raises an `ArtifactError`. It needs neither TensorFlow nor the runtime.

The format is a FlatBuffer (https://flatbuffers.dev/internals): a table starts with a signed
distance back to its vtable, the vtable lists the offset of each field, and strings, vectors and
tables are referenced by unsigned distances forward.
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from tfprune.errors import ArtifactError

IDENTIFIER = b"TFL3"

# Bits by type, in the order of the codes of `TensorType` in the schema; 0 where they vary.
_BITS = {
    "float32": 32, "float16": 16, "int32": 32, "uint8": 8, "int64": 64, "string": 0, "bool": 8,
    "int16": 16, "complex64": 64, "int8": 8, "float64": 64, "complex128": 128, "uint64": 64,
    "resource": 0, "variant": 0, "uint32": 32, "uint16": 16, "int4": 4, "bfloat16": 16, "int2": 2,
    "uint4": 4, "float8_e4m3fn": 8, "float8_e5m2": 8,
}  # fmt: skip
DTYPES = tuple(_BITS)

# The runtime's kernels support at most 8.
_MOST_AXES = 32

# The options that are read, as in the schema: name, field, kind, default.
_OPTIONS: dict[str, tuple[tuple[str, int, str, int], ...]] = {
    "CONV_2D": (
        ("valid", 0, "b", 0), ("stride_w", 1, "i", 0), ("stride_h", 2, "i", 0),
        ("dilation_w", 4, "i", 1), ("dilation_h", 5, "i", 1),
    ),
    "DEPTHWISE_CONV_2D": (
        ("valid", 0, "b", 0), ("stride_w", 1, "i", 0), ("stride_h", 2, "i", 0),
        ("multiplier", 3, "i", 0), ("dilation_w", 5, "i", 1), ("dilation_h", 6, "i", 1),
    ),
    "MEAN": (("keep_dims", 0, "B", 0),),
}  # fmt: skip

FLOAT_DTYPES = frozenset({"float16", "float32", "float64", "bfloat16"})


@dataclass(frozen=True)
class Tensor:
    """One tensor of a subgraph.

    Sizes that are only known at run time are 1 in `shape` and -1 in `signature`. Buffer 0 has no
    data. There are no `scales`, one, or one for each slice along `axis`, and as many `zero_points`.
    A `variable` tensor keeps its value between runs; a `sparse` one has a sparse encoding.
    """

    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    dtype: str
    buffer: int
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    variable: bool = False
    sparse: bool = False

    @property
    def elements(self) -> int:
        """Return the number of its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Op:
    """One operation: its name, the tensors it reads (-1: omitted) and those it writes.

    Operations in `_OPTIONS` have their options too.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    custom: bool = False
    options: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Subgraph:
    """The tensors and operations of one graph; control flow has further graphs."""

    name: str
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ops: tuple[Op, ...]


@dataclass(frozen=True)
class Signature:
    """A named entry point: names and tensor indices of its inputs and outputs."""

    key: str
    subgraph: int
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Span:
    """The range of a buffer's data in the file: in the flatbuffer, or after it."""

    start: int
    size: int
    outside: bool = False


@dataclass(frozen=True)
class Contents:
    """A parsed file: the first subgraph is the main graph; metadata are names of buffers."""

    data: bytes
    description: str
    subgraphs: tuple[Subgraph, ...]
    buffers: tuple[Span, ...]
    metadata: tuple[tuple[str, int], ...]
    signatures: tuple[Signature, ...]

    def raw(self, tensor: Tensor) -> memoryview:
        """Return the stored bytes of a tensor; empty when it is computed at run time."""
        span = self.buffers[tensor.buffer]
        return memoryview(self.data)[span.start : span.start + span.size]

    def ops(self) -> Iterator[Op]:
        """Yield the operations of all subgraphs."""
        for graph in self.subgraphs:
            yield from graph.ops


def parse(data: bytes, where: str = "the file") -> Contents:
    """Read a `.tflite` file; errors name it `where`.

    Raises:
        ArtifactError: It is empty, foreign, truncated or inconsistent.

    Example:
        >>> try:
        ...     parse(b"PK\\x03\\x04 a zip archive", "model.zip")
        ... except ArtifactError as error:
        ...     print(str(error).partition(";")[0])
        model.zip: not a .tflite file (no TFL3 mark in its first 8 bytes)
    """
    if not data:
        raise ArtifactError(f"{where}: the file is empty; convert the model again")
    if data[4:8] != IDENTIFIER:
        raise ArtifactError(
            f"{where}: not a .tflite file (no TFL3 mark in its first 8 bytes); "
            "give the path of a converted model"
        )
    try:
        return _contents(Reader(data))
    except _Damage as damage:
        raise ArtifactError(
            f"{where}: truncated or damaged .tflite file of {len(data)} bytes ({damage}); "
            "copy or convert it again"
        ) from None


class _Damage(Exception):
    """The file violates the format."""


class Reader:
    """Reads scalars, strings, vectors and tables with bounds checks."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        # Offsets may all point to one large vector: without a budget, n offsets to n bytes would
        # take n² steps.
        self._budget = 16 * len(data) + 1_000_000

    def spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise _Damage("its parts overlap too much")

    def number(self, position: int, kind: str) -> int:
        if position < 0 or position + struct.calcsize("<" + kind) > len(self.data):
            raise _Damage(f"offset {position} is out of bounds")
        return struct.unpack_from("<" + kind, self.data, position)[0]

    def follow(self, position: int) -> int:
        return position + self.number(position, "I")

    def field(self, table: int, index: int) -> int | None:
        """Return the position of field `index` of a table; None when it has its default."""
        vtable = table - self.number(table, "i")
        slot = 4 + 2 * index
        if slot + 2 > self.number(vtable, "H"):
            return None
        offset = self.number(vtable + slot, "H")
        return table + offset if offset else None

    def scalar(self, table: int, index: int, kind: str, default: int = 0) -> int:
        position = self.field(table, index)
        return default if position is None else self.number(position, kind)

    def table(self, table: int, index: int) -> int | None:
        position = self.field(table, index)
        return None if position is None else self.follow(position)

    def span(self, table: int, index: int, item_bytes: int) -> Span | None:
        position = self.field(table, index)
        if position is None:
            return None
        start = self.follow(position)
        size = self.number(start, "I") * item_bytes
        if start + 4 + size > len(self.data):
            raise _Damage(f"a vector of {size} bytes at offset {start} ends out of bounds")
        return Span(start + 4, size)

    def vector(self, table: int, index: int, dtype: str) -> np.ndarray:
        kind = np.dtype(dtype).newbyteorder("<")
        span = self.span(table, index, kind.itemsize)
        if span is None:
            return np.empty(0, kind)
        self.spend(span.size)
        return np.frombuffer(self.data, kind, span.size // kind.itemsize, span.start)

    def integers(self, table: int, index: int, dtype: str = "i4") -> tuple[int, ...]:
        return tuple(self.vector(table, index, dtype).tolist())

    def tables(self, table: int, index: int) -> list[int]:
        span = self.span(table, index, 4)
        if span is None:
            return []
        self.spend(8 * span.size)
        return [self.follow(span.start + 4 * i) for i in range(span.size // 4)]

    def string(self, table: int, index: int) -> str:
        return self.vector(table, index, "u1").tobytes().decode("utf-8", "replace")


def op_names() -> frozenset[str]:
    """Return the names of all built-in operations."""
    return frozenset(_op_names().values())


@cache
def _op_names() -> dict[int, str]:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    return {
        code: name
        for name, code in vars(BuiltinOperator).items()
        if isinstance(code, int) and not name.startswith("_")
    }


def _contents(reader: Reader) -> Contents:
    root = reader.follow(0)
    if reader.scalar(root, 0, "I") != 3:
        raise _Damage(f"schema version {reader.scalar(root, 0, 'I')}, expected 3")
    buffers = tuple(_buffer(reader, table) for table in reader.tables(root, 4))
    codes = [_opcode(reader, table) for table in reader.tables(root, 1)]
    subgraphs = tuple(_subgraph(reader, table, codes, buffers) for table in reader.tables(root, 2))
    if not subgraphs:
        raise _Damage("it contains no graph")
    metadata = _named(reader, root, 6, buffers, "metadata buffer")
    signatures = tuple(_signature(reader, table, subgraphs) for table in reader.tables(root, 7))
    return Contents(reader.data, reader.string(root, 3), subgraphs, buffers, metadata, signatures)


def _named(
    reader: Reader, table: int, index: int, items: tuple, what: str
) -> tuple[tuple[str, int], ...]:
    """Return names with the index that each stands for."""
    return tuple(
        (reader.string(entry, 0), _within(reader.scalar(entry, 1, "I"), items, what))
        for entry in reader.tables(table, index)
    )


def _within(index: int, items: tuple | list, what: str) -> int:
    if not 0 <= index < len(items):
        raise _Damage(f"{what} {index} of {len(items)}")
    return index


def _buffer(reader: Reader, table: int) -> Span:
    inside = reader.span(table, 0, 1)
    # Large files and files of litert-quantizer store their data after the flatbuffer.
    start, size = reader.scalar(table, 1, "Q"), reader.scalar(table, 2, "Q")
    if start > 1:
        if start + size > len(reader.data):
            raise _Damage(f"a buffer of {size} bytes at {start} ends out of bounds")
        return Span(start, size, outside=True)
    return inside or Span(0, 0)


def _opcode(reader: Reader, table: int) -> tuple[str, bool]:
    # Codes above 127 do not fit the first field, which is then 127.
    code = max(reader.scalar(table, 0, "b"), reader.scalar(table, 3, "i"))
    name = _op_names().get(code)
    if name is None:
        raise _Damage(f"operation code {code} is unknown")
    return (reader.string(table, 1) or "CUSTOM", True) if name == "CUSTOM" else (name, False)


def _subgraph(
    reader: Reader, table: int, codes: list[tuple[str, bool]], buffers: tuple[Span, ...]
) -> Subgraph:
    tensors = tuple(_tensor(reader, entry, buffers) for entry in reader.tables(table, 0))
    inputs, outputs = reader.integers(table, 1), reader.integers(table, 2)
    for index in inputs + outputs:
        _within(index, tensors, "graph input or output")
    ops = tuple(_op(reader, entry, codes, tensors) for entry in reader.tables(table, 3))
    return Subgraph(reader.string(table, 4), tensors, inputs, outputs, ops)


def _op(
    reader: Reader, table: int, codes: list[tuple[str, bool]], tensors: tuple[Tensor, ...]
) -> Op:
    name, custom = codes[_within(reader.scalar(table, 0, "I"), codes, "operation code")]
    inputs, outputs = reader.integers(table, 1), reader.integers(table, 2)
    for index in inputs + outputs:
        if index != -1:
            _within(index, tensors, f"tensor of {name}")
    settings = reader.table(table, 4)
    options = {
        key: default if settings is None else reader.scalar(settings, index, kind, default)
        for key, index, kind, default in _OPTIONS.get(name, ())
    }
    return Op(name, inputs, outputs, custom, options)


def _tensor(reader: Reader, table: int, buffers: tuple[Span, ...]) -> Tensor:
    shape = reader.integers(table, 0)
    if len(shape) > _MOST_AXES:
        raise _Damage(f"a tensor of {len(shape)} axes")
    if any(size < 0 for size in shape):
        raise _Damage(f"shape {shape}")
    signature = reader.integers(table, 7)
    if signature and len(signature) != len(shape):
        raise _Damage(f"shape {shape} with signature {signature}")
    dtype = DTYPES[_within(reader.scalar(table, 1, "b"), DTYPES, "type")]
    buffer = _within(reader.scalar(table, 2, "I"), buffers, "buffer")
    scales, zero_points, axis = _quantization(reader, reader.table(table, 4), shape)
    sparse = reader.table(table, 6) is not None
    stored = buffers[buffer].size
    if stored and not sparse and _BITS[dtype]:
        expected = (math.prod(shape) * _BITS[dtype] + 7) // 8
        if stored != expected:
            raise _Damage(f"{stored} bytes for {dtype} of shape {shape}, expected {expected}")
    if stored and sparse and stored % max(1, _BITS[dtype] // 8):
        raise _Damage(f"{stored} bytes for numbers of type {dtype}")
    return Tensor(
        name=reader.string(table, 3),
        shape=shape,
        signature=signature or shape,
        dtype=dtype,
        buffer=buffer,
        scales=scales,
        zero_points=zero_points,
        axis=axis,
        variable=bool(reader.scalar(table, 5, "B")),
        sparse=sparse,
    )


def _signature(reader: Reader, table: int, subgraphs: tuple[Subgraph, ...]) -> Signature:
    subgraph = _within(reader.scalar(table, 4, "I"), subgraphs, "graph of a signature")
    tensors, what = subgraphs[subgraph].tensors, "tensor of a signature"
    inputs, outputs = (_named(reader, table, index, tensors, what) for index in (0, 1))
    return Signature(reader.string(table, 2), subgraph, inputs, outputs)


def _quantization(
    reader: Reader, table: int | None, shape: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[int, ...], int]:
    """Return the scales of a tensor, its zero points, and the axis of the scales."""
    if table is None:
        return (), (), 0
    scales = tuple(reader.vector(table, 2, "f4").tolist())
    zero_points = reader.integers(table, 3, "i8")
    axis = reader.scalar(table, 6, "i")
    if len(scales) > 1 and (not 0 <= axis < len(shape) or len(scales) != shape[axis]):
        raise _Damage(f"{len(scales)} scales along axis {axis} of shape {shape}")
    if zero_points and len(zero_points) not in (1, len(scales)):
        raise _Damage(f"{len(zero_points)} zero points for {len(scales)} scales")
    return scales, zero_points, axis
