"""A converted model: its bytes, where it was written, and what is known about it."""

import dataclasses
import gzip
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfprune.errors import ArtifactError
from tfprune.runtime.scheme_choice import Choice
from tfprune.storage.files import parse_json, read_bytes, write_together
from tfprune.storage.records import record


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a file.

    Attributes:
        name: Its name in the file's signature.
        shape: Its shape, -1 where any size will do.
        dtype: What the file takes or gives: "float32", "int8" …
        scale: real = scale · (stored − zero_point); 0.0 when it is not quantized.
        zero_point: The stored number that stands for 0.
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
    """How far the file's outputs lie from the Keras model's, on the same samples.

    Attributes:
        output: The output's name.
        samples: How many samples were run.
        data: "calibration" or "random".
        max_error: The largest absolute difference.
        rms_error: The root of the mean squared difference.
        spread: The standard deviation of the Keras model's output: what the errors compare to.
        correlation: Pearson's, over all numbers; 1.0 when both are constant.
        agreement: The fraction of samples with the same argmax over the last axis; of integer
            outputs that of equal numbers.
        bound: What `rms_error` was allowed to be.
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
            f"{self.output}: apart by {self.rms_error:.3g} (root mean square; up to "
            f"{self.bound:.3g} allowed), {self.max_error:.3g} at most, where it spreads "
            f"{self.spread:.3g}; correlation {self.correlation:.5f}, same answer "
            f"{self.agreement:.1%}, on {self.samples} {self.data} samples"
        )


@dataclass(frozen=True)
class ConversionReport:
    """What a file is and how it was made.

    Two equal conversions have equal reports, but for what was timed to choose a scheme.

    Attributes:
        scheme: The scheme asked for.
        io: The type of float inputs and outputs in the file: "float32", "int8" …
        versions: Of Python, tfprune, TensorFlow, Keras and the runtime.
        sha256: Of the file.
        raw_bytes: Its size.
        gzip_bytes: Its size under gzip -9: about what a download costs.
        ops: How often each operation occurs.
        inputs: In the order of the Keras model.
        outputs: In the order of the Keras model.
        parity: One for each output.
        notes: What was done or allowed beyond the plain conversion, one sentence each.
        choice: What else was tried, when the scheme was chosen by measuring.
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
        """Return what is known as lines of text."""
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
        """Build a report from what `to_dict` or a `.json` file gives.

        Raises:
            RecordFault: A ValueError: it is something else.
        """
        return record(cls, fields)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ConversionReport":
        """Return the report that was written beside a file.

        Raises:
            ArtifactError: It is missing, or not such a report.
        """
        try:
            return cls.from_dict(parse_json(read_bytes(path, "convert the model again")))
        except ArtifactError:
            raise
        except ValueError as error:
            raise ArtifactError(f"{path}: not the report of a file: {error}") from None


def spec_of(fields: dict[str, Any]) -> TensorSpec:
    """Build an input or output from its fields as JSON holds them."""
    return TensorSpec(**{**fields, "shape": tuple(fields["shape"])})


@dataclass(frozen=True)
class Artifact:
    """A `.tflite` or `.onnx` file in memory, and on disk when a path was given.

    Attributes:
        bytes: The file.
        path: Where it was written, or None.
        report: How it was made and what it is.
    """

    bytes: bytes = dataclasses.field(repr=False)
    path: Path | None
    report: ConversionReport

    def __str__(self) -> str:
        return f"{self.path or 'not written'}: {self.report}"

    def save(self, path: str | os.PathLike[str]) -> "Artifact":
        """Write `path` and, beside it, the report: `X.json` for X.tflite, else `X.onnx.json`.

        Returns:
            The artifact with its new path.
        """
        target = Path(path)
        # The report goes first: a `.tflite` that can be seen always has its report.
        _, path = write_together({report_path(target): self.report.to_json(), target: self.bytes})
        return dataclasses.replace(self, path=path)


Artefact = Artifact  # its name in 0.1.0


def report_path(path: str | os.PathLike[str]) -> Path:
    """Return where the report of a file lies, so that two files of a model have one each.

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
    """Return how long `data` is under gzip -9, the same on every call."""
    return len(gzip.compress(data, compresslevel=9, mtime=0))
