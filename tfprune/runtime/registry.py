"""The runtimes that can time a file, by what the file is: `.tflite` or `.onnx`."""

import importlib.metadata
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfprune.data.random_inputs import random_input
from tfprune.errors import OptionError, nearest
from tfprune.runtime import flatbuffer, onnx
from tfprune.runtime.artifact import Artifact, TensorSpec
from tfprune.runtime.litert import Runner, Source, read_source
from tfprune.utils.extras import installed, require
from tfprune.utils.registry import Registry


class Loaded(Protocol):
    """A file that a runtime has loaded.

    Attributes:
        inputs: What it takes, in its order; -1 for sizes left open.
    """

    inputs: tuple[TensorSpec, ...]

    def prepare(self, x: Any) -> None:
        """Put inputs in place, arrays by name."""

    def invoke(self) -> None:
        """Run once on the inputs that are in place."""


@dataclass(frozen=True)
class Runtime:
    """Something that runs files of one kind.

    Attributes:
        package: What is installed for it.
        module: What is imported of it.
        ending: Of the names of its files.
        check: Takes a file and what to call it; raises when that is none, or the package is
            missing. It runs in the caller's process, so it only reads.
        open: Takes a file and a number of threads and loads it, in a child process.
    """

    package: str
    module: str
    ending: str
    check: Callable[[bytes, str], object]
    open: Callable[[bytes, int], Loaded]

    @property
    def version(self) -> str:
        """The package with its version."""
        return f"{self.package} {importlib.metadata.version(self.package)}"

    @property
    def installed(self) -> bool:
        """Whether the package is there."""
        return installed(self.module.partition(".")[0])


runtimes: Registry[Runtime] = Registry("runtime")


def _check_onnx(data: bytes, where: str) -> None:
    # Whether the rest is right only ONNX Runtime can say.
    require(where, "onnx", "onnxruntime")


runtimes.register("litert")(
    Runtime(
        "ai-edge-litert",
        "ai_edge_litert.interpreter",
        ".tflite",
        flatbuffer.parse,
        Runner.trusting,
    )
)
runtimes.register("onnx")(
    Runtime("onnxruntime", "onnxruntime", onnx.ENDING, _check_onnx, onnx.OnnxRunner)
)


def read_any(source: Source) -> tuple[bytes, Runtime]:
    """Return the bytes of a file and the runtime that it is for.

    The ending of its name decides; bytes without a name are told by how they begin.

    Args:
        source: An artifact, the bytes themselves, or a path.

    Raises:
        ArtifactError: It is missing, or no such file.
        OptionError: Its runtime is not installed.
    """
    data, where = read_source(source)
    runtime = _kind(source, data)
    runtime.check(data, where)
    return data, runtime


def _kind(source: Source, data: bytes) -> Runtime:
    path = source.path if isinstance(source, Artifact) else source
    if isinstance(path, str | os.PathLike):
        return of_ending(Path(path))
    return runtimes["onnx" if onnx.is_onnx(data) else "litert"]


def of_ending(path: Path) -> Runtime:
    """Return the runtime for a file by the ending of its name; LiteRT for any that is not known."""
    for name in runtimes:
        if runtimes[name].ending == path.suffix:
            return runtimes[name]
    return runtimes["litert"]


def check_inputs(shapes: Iterable[str], inputs: Iterable[TensorSpec]) -> None:
    """Refuse shapes for inputs that nothing has.

    Raises:
        OptionError: One is for such an input.
    """
    known = {spec.name for spec in inputs}
    for name in shapes:
        if name not in known:
            raise OptionError(f"input_shapes: no input {name!r}. {nearest(name, known)}")


def noise(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Return something to run a file on.

    Real numbers are noise. Whole ones are zeros: they may be indexes, which must lie inside of an
    embedding of unknown length.
    """
    real = spec.scale or np.dtype(spec.dtype).kind == "f"
    return random_input(random, shape, "float64" if real else spec.dtype, whole=(0, 1))


def shape_of(spec: TensorSpec, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """Return the shape to run an input with: the one given, or its own with one sample.

    Raises:
        OptionError: It leaves more than the batch free and none was given, or has another.
    """
    own = (max(spec.shape[0], 1), *spec.shape[1:]) if spec.shape else ()
    shape = tuple(shapes.get(spec.name, own))
    if any(side < 1 for side in shape):
        sizes = ",".join("N" if side < 1 else str(side) for side in shape)
        raise OptionError(
            f"input {spec.name!r} leaves its shape {spec.shape} free; "
            f"give input_shapes={{{spec.name!r}: (1, ...)}}, or --input-shape {spec.name}={sizes}"
        )
    if len(shape) != len(own) or any(
        side not in (-1, wanted) for side, wanted in zip(spec.shape, shape, strict=True)
    ):
        raise OptionError(
            f"input_shapes: input {spec.name!r} takes {spec.shape}, -1 for any size. "
            f"Received {shape}"
        )
    return shape
