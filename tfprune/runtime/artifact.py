"""A converted model: its bytes, its path and its report."""

import dataclasses
import gzip
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfprune.errors import ArtifactError
from tfprune.runtime.schemes import Choice
from tfprune.storage.files import parse_json, read_bytes, write_together
from tfprune.storage.records import record


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a file.

    Attributes:
        name: Its name in the file's signature.
        shape: Its shape, -1 for open sizes.
        dtype: Its type in the file: "float32", "int8" …
        scale: real = scale · (stored − zero_point); 0.0 when it is not quantized.
        zero_point: The stored number that represents 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    def __str__(self) -> str:
        scale = f", scale {self.scale:g}, zero point {self.zero_point}" if self.scale else ""
        shape = "×".join("?" if size == -1 else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype} {shape}{scale}"


@dataclass(frozen=True)
class Parity:
    """Difference between an output of the file and of the Keras model, on the same samples.

    Attributes:
        output: The output's name.
        samples: Number of samples.
        data: "calibration" or "random".
        max_error: The largest absolute difference.
        rms_error: The root of the mean squared difference.
        spread: The standard deviation of the Keras model's output.
        correlation: Pearson's correlation over all numbers; 1.0 when both are constant.
        agreement: The fraction of samples with the same argmax over the last axis; for integer
            outputs, of equal numbers.
        bound: The limit on `rms_error`.
    """

    output: str
    samples: int
    data: str
    max_error: float
    rms_error: float
    spread: float
    correlation: float
    agreement: float
    bound: float

    def __str__(self) -> str:
        return (
            f"{self.output}: error {self.rms_error:.3g} (root mean square; allowed "
            f"{self.bound:.3g}), at most {self.max_error:.3g}, standard deviation "
            f"{self.spread:.3g}; correlation {self.correlation:.5f}, agreement "
            f"{self.agreement:.1%}, on {self.samples} {self.data} samples"
        )


@dataclass(frozen=True)
class ConversionReport:
    """The contents of a file and the conditions of its conversion.

    Two equal conversions have equal reports, except for latencies measured to choose a scheme.

    Attributes:
        scheme: The scheme of the conversion.
        io: The type of float inputs and outputs in the file: "float32", "int8" …
        versions: Versions of Python, tfprune, TensorFlow, Keras and the runtime.
        sha256: Hash of the file.
        raw_bytes: Its size.
        gzip_bytes: Its size under gzip -9: about the download size.
        ops: The number of each operation.
        inputs: In the order of the Keras model.
        outputs: In the order of the Keras model.
        parity: One for each output.
        notes: Remarks on the conversion, one sentence each.
        choice: The other candidates, when the scheme was chosen by measuring.
    """

    scheme: str
    io: str
    versions: dict[str, str]
    sha256: str
    raw_bytes: int
    gzip_bytes: int
    ops: dict[str, int]
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    parity: tuple[Parity, ...] = ()
    notes: tuple[str, ...] = ()
    choice: Choice | None = None

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """Return the report as lines of text."""
        ops = ", ".join(f"{name} {count}" for name, count in self.ops.items())
        lines = [
            f"{self.scheme}: {self.raw_bytes:,} bytes, {self.gzip_bytes:,} under gzip",
            *(f"input   {spec}" for spec in self.inputs),
            *(f"output  {spec}" for spec in self.outputs),
            *(f"parity  {parity}" for parity in self.parity),
            f"ops     {ops}",
            *(f"note    {note}" for note in self.notes),
        ]
        return "\n".join(lines if self.choice is None else [*lines, "", self.choice.to_text()])

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts, strings and numbers."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "ConversionReport":
        """Build a report from the result of `to_dict`, or from a `.json` file.

        Raises:
            RecordFault: A ValueError: the fields do not match.
        """
        return record(cls, fields)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ConversionReport":
        """Return the report that was written next to a file.

        Raises:
            ArtifactError: It is missing, or not such a report.
        """
        try:
            return cls.from_dict(parse_json(read_bytes(path, "convert the model again")))
        except ArtifactError:
            raise
        except ValueError as error:
            raise ArtifactError(f"{path}: not a conversion report: {error}") from None


def spec_of(fields: dict[str, Any]) -> TensorSpec:
    """Build a spec from its fields in JSON."""
    return TensorSpec(**{**fields, "shape": tuple(fields["shape"])})


@dataclass(frozen=True)
class Artifact:
    """A `.tflite` or `.onnx` file in memory, and on disk when a path was given.

    Attributes:
        bytes: The file.
        path: Its path, or None if it was not written.
        report: Its conversion report.
    """

    bytes: bytes = dataclasses.field(repr=False)
    path: Path | None
    report: ConversionReport

    def __str__(self) -> str:
        return f"{self.path or 'not written'}: {self.report}"

    def save(self, path: str | os.PathLike[str]) -> "Artifact":
        """Write `path` and, next to it, the report: `X.json` for X.tflite, else `X.onnx.json`.

        Returns:
            The artifact with its new path.
        """
        target = Path(path)
        # The report is written first, so that a visible `.tflite` always has its report.
        _, path = write_together({report_path(target): self.report.to_json(), target: self.bytes})
        return dataclasses.replace(self, path=path)


Artefact = Artifact  # its name in 0.1.0


def report_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file's report, which differs for the two formats of a model.

    Example:
        >>> report_path("model.tflite").name, report_path("model.onnx").name
        ('model.json', 'model.onnx.json')
    """
    target = Path(path)
    if target.suffix == ".onnx":
        return target.with_name(f"{target.name}.json")
    return target.with_suffix(".json")


def sha256(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def gzip_bytes(data: bytes) -> int:
    """Return the size of `data` under gzip -9, the same on every call."""
    return len(gzip.compress(data, compresslevel=9, mtime=0))
