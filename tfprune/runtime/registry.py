"""The runtimes of files, by format: `.tflite` or `.onnx`."""

import importlib.metadata
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfprune.data.model_comparison import random_input
from tfprune.errors import OptionError, nearest
from tfprune.runtime import flatbuffer, onnx
from tfprune.runtime.artifact import Artifact, TensorSpec
from tfprune.runtime.litert import Runner, Source, read_source
from tfprune.utils.extras import installed, require
from tfprune.utils.registry import Registry


class Loaded(Protocol):
    """A file loaded by a runtime.

    Attributes:
        inputs: Its inputs, in order; -1 for open sizes.
    """

    inputs: tuple[TensorSpec, ...]

    def prepare(self, x: Any) -> None:
        """Set the inputs, arrays by name."""

    def invoke(self) -> None:
        """Run once on the current inputs."""


@dataclass(frozen=True)
class Runtime:
    """A library that runs files of one format.

    Attributes:
        package: Its package on PyPI.
        module: Its module.
        ending: The ending of its files.
        check: Takes a file and its name for errors; raises if the format is wrong or the package
            is missing. It runs in the caller's process, so it only reads.
        open: Takes a file and a number of threads and loads it, in a child process.
    """

    package: str
    module: str
    ending: str
    check: Callable[[bytes, str], object]
    open: Callable[[bytes, int], Loaded]

    @property
    def version(self) -> str:
        """Return the package with its version."""
        return f"{self.package} {importlib.metadata.version(self.package)}"

    @property
    def installed(self) -> bool:
        """Return whether the package is installed."""
        return installed(self.module.partition(".")[0])


runtimes: Registry[Runtime] = Registry("runtime")


def _check_onnx(data: bytes, where: str) -> None:
    # Only ONNX Runtime can check the rest.
    require(where, "onnx", "onnxruntime")


runtimes.register("litert")(
    Runtime(
        "ai-edge-litert", "ai_edge_litert.interpreter", ".tflite", flatbuffer.parse, Runner.trusting
    )
)
runtimes.register("onnx")(
    Runtime("onnxruntime", "onnxruntime", onnx.ENDING, _check_onnx, onnx.OnnxRunner)
)


def read_any(source: Source) -> tuple[bytes, Runtime]:
    """Return the bytes of a file and its runtime.

    The ending of its name decides, or for bytes without a name, how they start.

    Raises:
        ArtifactError: It is missing, or has another format.
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
    """Return the runtime for a file by the ending of its name; LiteRT for unknown ones."""
    for name in runtimes:
        if runtimes[name].ending == path.suffix:
            return runtimes[name]
    return runtimes["litert"]


def check_inputs(shapes: Iterable[str], inputs: Iterable[TensorSpec]) -> None:
    """Raise if a shape is given for an unknown input.

    Raises:
        OptionError: An input is unknown.
    """
    known = {spec.name for spec in inputs}
    for name in shapes:
        if name not in known:
            raise OptionError(f"input_shapes: no input {name!r}. {nearest(name, known)}")


def noise(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Return an array to run a file on.

    Floats are noise. Integers are zeros: they may be indices, which must be in range of an
    embedding of unknown length.
    """
    real = spec.scale or np.dtype(spec.dtype).kind == "f"
    return random_input(random, shape, "float64" if real else spec.dtype, whole=(0, 1))


def shape_of(spec: TensorSpec, shapes: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """Return the shape for an input: the given one, or its own with one sample.

    Raises:
        OptionError: The input has further open sizes and no shape is given, or it does not fit.
    """
    own = (max(spec.shape[0], 1), *spec.shape[1:]) if spec.shape else ()
    shape = tuple(shapes.get(spec.name, own))
    if any(side < 1 for side in shape):
        sizes = ",".join("N" if side < 1 else str(side) for side in shape)
        raise OptionError(
            f"input {spec.name!r} has open sizes in its shape {spec.shape}; "
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
