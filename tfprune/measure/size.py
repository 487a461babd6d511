"""Size of a file: on disk, compressed, and the entropy of its weights."""

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
"""The highest level whose decompression fits the memory of phones."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of one file, and its weights.

    Attributes:
        raw_bytes: Size on disk.
        gzip_bytes: Size under gzip at level 9 with no time stamp: the download size. Zeros from
            unstructured pruning show here, not in `raw_bytes`.
        zstd_bytes: Size under zstd at `ZSTD_LEVEL`, used by app stores and package formats;
            None without zstandard, which the extra `report` installs.
        entropy_bytes: Order-0 entropy of the weights, tensor by tensor: the lower bound for coders
            that encode each weight separately. It covers weights only.
        weights: Number of weights, including zeros that a sparse file does not store.
        zeros: How many of them are zero.
    """

    raw_bytes: int
    gzip_bytes: int
    zstd_bytes: int | None
    entropy_bytes: int
    weights: int
    zeros: int


def sizes(source: Source) -> Sizes:
    """Return the sizes of a `.tflite` file.

    Raises:
        ArtifactError: It is missing, truncated, or not a `.tflite`.
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
    """Return the size of `data` under zstd at `ZSTD_LEVEL`; None without zstandard.

    Example:
        >>> zstd_bytes(bytes(100_000)) < 50
        True
    """
    if not installed("zstandard"):
        return None
    import zstandard

    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data))


def stored_weights(contents: Contents) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield each weight tensor of a file with its stored numbers, flat; shared buffers once.

    Weights are constants that represent real numbers: floats, and integers with a scale. Axes,
    shapes and other plain integers are not weights.
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
        # Several per byte, low bits first; as codes, since only their frequencies matter.
        packed = np.frombuffer(raw, np.uint8)
        codes = [(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
        return np.stack(codes, axis=1).reshape(-1)[: tensor.elements]
    # Types that numpy lacks are read as codes too.
    dtype = {"bfloat16": "uint16"}.get(tensor.dtype, tensor.dtype)
    return np.frombuffer(raw, np.uint8 if dtype.startswith("float8") else dtype)


def entropy_bytes(arrays: Iterable[np.ndarray]) -> int:
    """Return the order-0 entropy of arrays, each coded with its own frequency tables.

    First the positions of zeros, then the others, byte by byte: for n numbers of which z are zero

        H = n·h(z/n) + (n−z)·Σ_b H_b,   h(p) = −p·log2 p − (1−p)·log2(1−p)

    where H_b is the entropy of byte b of the nonzero numbers. For one-byte numbers this is exactly
    their order-0 entropy. Longer numbers hardly ever repeat, so a table of whole numbers would be
    as large as the data; where they do, as in a clustered kernel, the sum is that of whole numbers
    and of their table, if this is less.

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
        planes = alive.view(np.uint8).reshape(alive.size, alive.itemsize).T
        bits += min(sum(_bits(np.bincount(plane)) for plane in planes), _whole_bits(alive))
    return math.ceil(bits / 8)


def _whole_bits(numbers: np.ndarray) -> float:
    """Return the entropy in bits of whole numbers with their table; infinite for very many."""
    if np.unique(numbers[:1024]).size > 512:
        return math.inf
    table, counts = np.unique(numbers, return_counts=True)
    return _bits(counts) + 8 * table.nbytes


def _bits(counts: np.ndarray) -> float:
    """Return the total entropy in bits of symbols with these counts."""
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum())
