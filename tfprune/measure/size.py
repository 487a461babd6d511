"""What a file weighs: on disk, in a download, and the floor under any compression of it."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tfprune.measure.sources import Source
from tfprune.runtime.artifact import gzip_bytes
from tfprune.runtime.flatbuffer import FLOAT_DTYPES, Contents, Tensor, parse
from tfprune.runtime.inspect import count_zeros
from tfprune.runtime.litert import read_file
from tfprune.utils.extras import installed

ZSTD_LEVEL = 19
"""The strongest level that asks for no more memory to unpack than any phone has."""


@dataclass(frozen=True)
class Sizes:
    """The bytes of one file, and the weights in it.

    Attributes:
        raw_bytes: As it lies on disk.
        gzip_bytes: After gzip at level 9 with no time stamp: what a download costs. Zeros from
            unstructured pruning show here, not in `raw_bytes`.
        zstd_bytes: After zstd at `ZSTD_LEVEL`, what app stores and package formats turn to; None
            without zstandard, which the extra `report` installs.
        entropy_bytes: Order-0 entropy of the weights, tensor by tensor: the floor under any coder
            that looks at one weight at a time. It leaves out what is no weight.
        weights: How many weights the file stores; those that it leaves out as zero count too.
        zeros: How many of them are zero.
    """

    raw_bytes: int
    gzip_bytes: int
    zstd_bytes: int | None
    entropy_bytes: int
    weights: int
    zeros: int


def sizes(source: Source) -> Sizes:
    """Return what a `.tflite` file weighs.

    Args:
        source: An artifact, or the path or the bytes of a file.

    Raises:
        ArtifactError: It is missing, truncated, or no `.tflite`.
    """
    data = read_file(source)
    count = zeros = 0
    stored = []
    contents = parse(data)
    for tensor, values in stored_weights(contents):
        count += tensor.elements
        zeros += count_zeros(contents, tensor) or 0
        stored.append(values)
    return Sizes(
        raw_bytes=len(data),
        gzip_bytes=gzip_bytes(data),
        zstd_bytes=zstd_bytes(data),
        entropy_bytes=entropy_bytes(stored),
        weights=count,
        zeros=zeros,
    )


def zstd_bytes(data: bytes) -> int | None:
    """Return how long `data` is under zstd at `ZSTD_LEVEL`; None if zstandard is not installed.

    Example:
        >>> zstd_bytes(bytes(100_000)) < 50
        True
    """
    if not installed("zstandard"):
        return None
    import zstandard

    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data))


def stored_weights(contents: Contents) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield each weight tensor of a file with its stored numbers, flat, a shared buffer once.

    Weights are constants that are real numbers: floats, and integers with a scale. Axes, shapes
    and other plain integers are none.
    """
    seen = set()
    for graph in contents.subgraphs:
        for tensor in graph.tensors:
            raw = contents.raw(tensor)
            if not len(raw) or tensor.buffer in seen:
                continue
            if tensor.dtype not in FLOAT_DTYPES and not tensor.scales:
                continue
            seen.add(tensor.buffer)
            yield tensor, _values(raw, tensor)


def _values(raw: memoryview, tensor: Tensor) -> np.ndarray:
    """Return the numbers of a buffer as they are stored."""
    bits = {"int4": 4, "uint4": 4, "int2": 2}.get(tensor.dtype)
    if bits:
        # Several to a byte, the low bits first; as codes, since only their frequencies matter.
        packed = np.frombuffer(raw, np.uint8)
        codes = [(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
        return np.stack(codes, axis=1).reshape(-1)[: tensor.elements]
    # Types that numpy lacks are codes too.
    dtype = {"bfloat16": "uint16"}.get(tensor.dtype, tensor.dtype)
    return np.frombuffer(raw, np.uint8 if dtype.startswith("float8") else dtype)


def entropy_bytes(arrays: Iterable[np.ndarray]) -> int:
    """Return the order-0 entropy of arrays, each coded with its own tables of frequencies.

    First which numbers are zero, then the others, byte by byte: for n numbers of which z are zero

        H = n·h(z/n) + (n−z)·Σ_b H_b,   h(p) = −p·log2 p − (1−p)·log2(1−p)

    where H_b is the entropy of byte b of those that are not zero. For numbers of one byte this is
    their order-0 entropy exactly. Numbers of several bytes hardly ever repeat as a whole, so that a
    table of whole numbers would be as large as what it codes.

    Args:
        arrays: The weights, in the type that they are stored in.

    Returns:
        Whole bytes, the sum rounded up.

    Example:
        >>> entropy_bytes([np.array([0, 0, 0, 0, 1, 1, 1, 1] * 8, np.int8)])
        8
        >>> entropy_bytes([np.zeros(1000, np.int8)])
        0
    """
    bits = 0.0
    for array in arrays:
        flat = np.ascontiguousarray(array).reshape(-1)
        alive = flat[flat != 0]
        bits += _bits(np.array([flat.size - alive.size, alive.size]))
        for plane in alive.view(np.uint8).reshape(alive.size, alive.itemsize).T:
            bits += _bits(np.bincount(plane))
    return math.ceil(bits / 8)


def _bits(counts: np.ndarray) -> float:
    """Return the entropy of symbols that occur so often, in bits for all of them."""
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum())
