"""Contents of a `.tflite` file: operations, tensors, zeros, and sizes of its parts."""

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.runtime import flatbuffer, litert, stored_numbers
from tfprune.runtime.artifact import TensorSpec, gzip_bytes, sha256
from tfprune.runtime.flatbuffer import Contents, Tensor
from tfprune.utils.text_table import grid

_PLAIN = {
    "float32": "<f4", "float16": "<f2", "float64": "<f8", "int8": "i1", "uint8": "u1",
    "int16": "<i2", "uint16": "<u2", "int32": "<i4", "uint32": "<u4", "int64": "<i8",
    "uint64": "<u8", "bool": "u1",
}  # fmt: skip


@dataclass(frozen=True)
class TensorRow:
    """A constant of the file.

    Attributes:
        name: Its name.
        dtype: How it is stored.
        shape: Its shape.
        bytes: The bytes of its data in the file.
        elements: The number of its elements.
        zeros: How many of them are 0 (None for types that are not read).
        sparse: Whether it is stored with a sparse encoding.
        used_by: The operations that read it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    elements: int
    zeros: int | None
    sparse: bool
    used_by: tuple[str, ...]


@dataclass(frozen=True)
class OpRow:
    """An operation with its input and output types, without constants."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Inspection:
    """The contents of a file.

    Attributes:
        where: Its path or another name.
        sha256: Hash of the whole file.
        raw_bytes: Its size.
        gzip_bytes: Its size under gzip -9.
        inputs: Its inputs.
        outputs: Its outputs.
        ops: All operations, in order, those of loop bodies last.
        tensors: All constants, the largest first.
        weights_bytes: Data of constants, each buffer counted once.
        scales_bytes: Quantization scales and zero points.
        metadata_bytes: Metadata buffers.
        structure_bytes: The rest: names, shapes, operations, indices of sparse weights, padding.
        outside_bytes: Data stored after the flatbuffer, in large files.
    """

    where: str
    sha256: str
    raw_bytes: int
    gzip_bytes: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ops: tuple[OpRow, ...]
    tensors: tuple[TensorRow, ...]
    weights_bytes: int
    scales_bytes: int
    metadata_bytes: int
    structure_bytes: int
    outside_bytes: int

    @property
    def zeros(self) -> int:
        """Return how many elements of all constants are 0."""
        return sum(row.zeros or 0 for row in self.tensors)

    @property
    def elements(self) -> int:
        """Return the number of elements of all constants."""
        return sum(row.elements for row in self.tensors)

    def op_counts(self) -> dict[str, int]:
        """Return the number of each operation."""
        return dict(sorted(Counter(op.name for op in self.ops).items()))

    def __str__(self) -> str:
        return self.to_text()

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts, strings and numbers."""
        return dataclasses.asdict(self)

    def to_text(self, most: int = 20) -> str:
        """Return tables of text, with at most `most` of the constants."""
        share = self.zeros / self.elements if self.elements else 0.0
        lines = [
            f"{self.where}: {self.raw_bytes:,} bytes, {self.gzip_bytes:,} under gzip",
            f"sha256 {self.sha256}",
            *(f"input   {spec}" for spec in self.inputs),
            *(f"output  {spec}" for spec in self.outputs),
            "",
            "bytes of weights, scales, metadata and structure: "
            f"{self.weights_bytes:,}, {self.scales_bytes:,}, {self.metadata_bytes:,}, "
            f"{self.structure_bytes:,}",
            f"zeros: {self.zeros:,} of {self.elements:,} ({share:.1%})",
            "",
            grid(
                ("operation", "count", "types"),
                [
                    (name, str(count), " / ".join(_types(self.ops, name)))
                    for name, count in self.op_counts().items()
                ],
            ),
            "",
            grid(
                ("constant", "type", "shape", "bytes", "zeros"),
                [
                    (
                        _short(row.name),
                        row.dtype + (" sparse" if row.sparse else ""),
                        "×".join(map(str, row.shape)) or "scalar",
                        f"{row.bytes:,}",
                        "" if row.zeros is None else f"{row.zeros / max(row.elements, 1):.1%}",
                    )
                    for row in self.tensors[:most]
                ],
            ),
        ]
        if len(self.tensors) > most:
            lines.append(f"… and {len(self.tensors) - most} smaller ones")
        return "\n".join(lines)


def inspect(source: litert.Source) -> Inspection:
    """Return the contents of a `.tflite` file, without running it.

    Args:
        source: An artifact, the bytes of a file, or its path.

    Raises:
        ArtifactError: It is missing, truncated, damaged, or not a `.tflite` file.

    Example:
        print(inspect("model.tflite"))
    """
    data, where = litert.read_source(source)
    contents = flatbuffer.parse(data, where)
    inputs, outputs = stored_numbers.specs(contents)
    weights = {
        tensor.buffer
        for graph in contents.subgraphs
        for tensor in graph.tensors
        if contents.buffers[tensor.buffer].size
    }
    weights_bytes = sum(contents.buffers[index].size for index in weights)
    metadata_bytes = sum(
        contents.buffers[index].size
        for index in {index for _, index in contents.metadata} - weights
    )
    scales_bytes = sum(
        4 * len(tensor.scales) + 8 * len(tensor.zero_points)
        for graph in contents.subgraphs
        for tensor in graph.tensors
    )
    return Inspection(
        where=where,
        sha256=sha256(data),
        raw_bytes=len(data),
        gzip_bytes=gzip_bytes(data),
        inputs=inputs,
        outputs=outputs,
        ops=tuple(_op_rows(contents)),
        tensors=tuple(sorted(_tensor_rows(contents), key=lambda row: (-row.bytes, row.name))),
        weights_bytes=weights_bytes,
        scales_bytes=scales_bytes,
        metadata_bytes=metadata_bytes,
        structure_bytes=max(0, len(data) - weights_bytes - scales_bytes - metadata_bytes),
        outside_bytes=sum(span.size for span in contents.buffers if span.outside),
    )


def count_zeros(contents: Contents, tensor: Tensor) -> int | None:
    """Return how many elements of a constant are 0; None for types that are not read.

    In a quantized tensor, the zero point counts as 0.
    """
    raw = contents.raw(tensor)
    if tensor.dtype in ("int4", "uint4", "int2"):
        bits = 2 if tensor.dtype == "int2" else 4
        packed = np.frombuffer(raw, np.uint8)
        parts = [(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
        values = np.stack(parts, 1).ravel()[: tensor.elements]
    elif tensor.dtype in _PLAIN:
        values = np.frombuffer(raw, _PLAIN[tensor.dtype])
    else:
        return None
    zero = tensor.zero_points[0] if len(set(tensor.zero_points)) == 1 else 0
    nonzero = int(np.count_nonzero(values != zero))
    # A sparse tensor stores only some elements; all others are zero.
    return max(0, tensor.elements - nonzero)


def _tensor_rows(contents: Contents) -> list[TensorRow]:
    rows = []
    for graph in contents.subgraphs:
        readers: dict[int, list[str]] = {}
        for op in graph.ops:
            for index in op.inputs:
                readers.setdefault(index, []).append(op.name)
        for index, tensor in enumerate(graph.tensors):
            size = contents.buffers[tensor.buffer].size
            if not size:
                continue
            rows.append(
                TensorRow(
                    name=tensor.name,
                    dtype=tensor.dtype,
                    shape=tensor.shape,
                    bytes=size,
                    elements=tensor.elements,
                    zeros=count_zeros(contents, tensor),
                    sparse=tensor.sparse,
                    used_by=tuple(dict.fromkeys(readers.get(index, ()))),
                )
            )
    return rows


def _op_rows(contents: Contents) -> list[OpRow]:
    rows: list[OpRow] = []
    for graph in contents.subgraphs:

        def types(indices: tuple[int, ...], tensors: tuple[Tensor, ...] = graph.tensors) -> Any:
            computed = (tensors[i] for i in indices if i != -1)
            return tuple(t.dtype for t in computed if not contents.buffers[t.buffer].size)

        rows.extend(OpRow(op.name, types(op.inputs), types(op.outputs)) for op in graph.ops)
    return rows


def _types(ops: tuple[OpRow, ...], name: str) -> list[str]:
    found = {kind for op in ops if op.name == name for kind in (*op.inputs, *op.outputs)}
    return sorted(found)


def _short(name: str, most: int = 48) -> str:
    clean = "".join(c if c.isprintable() else "?" for c in name)
    return clean if len(clean) <= most else "…" + clean[-most + 1 :]
