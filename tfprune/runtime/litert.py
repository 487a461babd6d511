"""Running `.tflite` files with the LiteRT interpreter: floats in, floats out, no TensorFlow.

A new file is first loaded and run in a child process, since some files crash the process that loads
them.
"""

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.data.batches import one_batch
from tfprune.data.model_inputs import inputs_of_specs
from tfprune.errors import ArtifactError, OptionError, type_name
from tfprune.runtime import flatbuffer
from tfprune.runtime.artifact import Artifact, sha256
from tfprune.runtime.flatbuffer import Contents
from tfprune.runtime.interpreter import load, open_interpreter
from tfprune.runtime.stored_numbers import dequantize, quantize, specs
from tfprune.storage.files import read_bytes
from tfprune.storage.scratch import scratch_folder
from tfprune.workers import pool

Source = Artifact | bytes | str | os.PathLike[str]

MOST_NUMBERS = 1 << 28
"""The most numbers that one tensor may have: 1 GiB of floats."""

# SHA-256 of files that a child process has loaded and run.
_LOADABLE: set[str] = set()


def read_file(source: Source) -> bytes:
    """Return the bytes of a `.tflite` file after checking that it is complete.

    Raises:
        ArtifactError: It is missing, truncated, or not a `.tflite` file.
    """
    data, where = read_source(source)
    flatbuffer.parse(data, where)
    return data


def read_source(source: Source) -> tuple[bytes, str]:
    """Return the bytes of a file, unchecked, and its name in errors."""
    if isinstance(source, Artifact):
        return source.bytes, str(source.path or "the artifact")
    if isinstance(source, bytes):
        return source, "the file"
    if not isinstance(source, str | os.PathLike):
        raise ArtifactError(
            "expected an Artifact, bytes or the path of a .tflite file. "
            f"Received {type_name(source)}"
        )
    return read_bytes(source, "convert a model to it first"), str(Path(source))


@contextlib.contextmanager
def on_disk(data: bytes) -> Iterator[Path]:
    """Yield the path of a temporary file with this content, for a `with` block."""
    with scratch_folder() as folder:
        path = Path(folder) / "content.tflite"
        path.write_bytes(data)
        yield path


def ensure_loadable(
    data: bytes, where: str = "the file", *, limit_s: float = pool.LOAD_LIMIT_S
) -> None:
    """Load a file and run it on zeros in a child process, once for each content.

    Raises:
        ArtifactError: The runtime cannot load the file, crashes or hangs on it.
    """
    digest = sha256(data)
    if digest in _LOADABLE:
        return
    with on_disk(data) as path:
        try:
            pool.run_job(load, str(path), limit_s=limit_s)
        except pool.ChildError as error:
            raise ArtifactError(f"{where}: {failure(error)}") from None
    _LOADABLE.add(digest)


def _refuse_huge(contents: Contents, where: str) -> None:
    """Raise if a tensor of a file would take more of the caller's memory than is allowed."""
    for tensor in (tensor for graph in contents.subgraphs for tensor in graph.tensors):
        shape = max(tensor.shape, tensor.signature, key=_numbers)
        if _numbers(shape) > MOST_NUMBERS:
            raise ArtifactError(
                f"{where}: tensor {tensor.name!r} has the shape {shape}, {_numbers(shape):,} "
                f"numbers; at most {MOST_NUMBERS:,} are allowed, so that running the file does not "
                "take all memory. Is the file damaged? Convert the model again, with a smaller "
                "batch or input"
            )


def _numbers(shape: tuple[int, ...]) -> int:
    return math.prod(max(size, 1) for size in shape)


def remember_loadable(data: bytes) -> None:
    """Record that a child process has run this content."""
    _LOADABLE.add(sha256(data))


def failure(error: pool.ChildError, stage: str = "loading") -> str:
    """Return one line on why a child failed at "loading" or "running" a file, with the fix."""
    if isinstance(error, pool.JobError):
        text = error.text or error.kind
        if "Select TensorFlow op" in text:
            text = (
                "it has Flex operations, which only TensorFlow can run; convert it with built-in "
                "operations only"
            )
        return f"the runtime refuses the file: {text}"
    if isinstance(error, pool.CrashError):
        return (
            f"the runtime crashes while {stage} it: {error}; convert the model with another scheme "
            "or a static batch"
        )
    return (
        f"the runtime hangs while {stage} it: {error}; the file is damaged or the machine is "
        "overloaded"
    )


class Runner:
    """A loaded file with float inputs and outputs.

    Inputs are quantized and outputs dequantized with the file's parameters. A batch of any size is
    run in pieces of the file's own batch (1, when that is open), as on a phone.

    Args:
        source: An artifact, the bytes of a file, or its path.
        threads: Threads of the runtime.

    Attributes:
        inputs: Its inputs, in order.
        outputs: Its outputs, in order.

    Raises:
        ArtifactError: The file is missing, truncated, of another format, or fails in the runtime.

    Example:
        runner = Runner("model.tflite")
        probabilities = runner(images)          # (n, 10) for n images
    """

    def __init__(self, source: Source, threads: int = 1) -> None:
        data, where = read_source(source)
        contents = flatbuffer.parse(data, where)
        _refuse_huge(contents, where)
        ensure_loadable(data, where)
        self._start(data, contents, threads)

    @classmethod
    def trusting(cls, data: bytes, threads: int = 1) -> "Runner":
        """Build a runner without the test in a child; only for use inside a child."""
        runner = cls.__new__(cls)
        runner._start(data, flatbuffer.parse(data), threads)
        return runner

    def _start(self, data: bytes, contents: Contents, threads: int) -> None:
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise OptionError(f"threads: expected an integer of at least 1. Received {threads!r}")
        self._interpreter = open_interpreter(data, threads, allocate=False)
        self._allocated = False
        graph = contents.subgraphs[0]
        self._has_state = any(tensor.variable for tensor in graph.tensors) or any(
            op.name == "VAR_HANDLE" for op in graph.ops
        )
        self.inputs, self.outputs = specs(contents)

    def __call__(self, x: Any) -> Any:
        """Return the outputs for a batch.

        Args:
            x: An array (one input), a dict from input name to array, or a list or tuple in the
                order of `inputs`; the first axis is the batch. Real numbers: they are quantized
                here if the file takes integers.

        Returns:
            An array when the file has one output, else a dict from output name to array.

        Raises:
            DataError: The data does not fit the inputs.
        """
        results = self.run_named(x)
        return next(iter(results.values())) if len(results) == 1 else results

    def run_named(self, x: Any) -> dict[str, np.ndarray]:
        """Return the outputs for a batch as a dict, even if there is one."""
        arrays = self.arrays(x)
        count = len(arrays[0])
        step = max(1, max((spec.shape[0] if spec.shape else 1) for spec in self.inputs))
        self._resize(arrays, step)
        pieces: list[list[np.ndarray]] = []
        for start in range(0, count, step):
            chunk = [array[start : start + step] for array in arrays]
            missing = step - len(chunk[0])
            if missing:
                chunk = [np.concatenate([part, part[-1:].repeat(missing, 0)]) for part in chunk]
            self._set(chunk)
            self.invoke()
            outputs = self._outputs()
            for output, spec in zip(outputs, self.outputs, strict=True):
                if output.shape[:1] != (step,):
                    raise ArtifactError(
                        f"output {spec.name!r} has shape {output.shape} for a batch of {step}: its "
                        "first axis must be the batch"
                    )
            pieces.append([output[: step - missing] for output in outputs])
        return {
            spec.name: np.concatenate([piece[i] for piece in pieces])
            for i, spec in enumerate(self.outputs)
        }

    def prepare(self, x: Any = None) -> None:
        """Set the inputs to `x`, so that `invoke` can be timed.

        Args:
            x: One batch. If the file has a fixed batch size, samples are cut off or repeated to
                match it. None: one batch of zeros.
        """
        fixed = max((spec.shape[0] if spec.shape else 1) for spec in self.inputs)
        step = max(1, fixed)
        if x is None:
            x = {
                spec.name: np.zeros((step, *(max(size, 1) for size in spec.shape[1:])), np.float32)
                for spec in self.inputs
            }
        arrays = self.arrays(x)
        if fixed < 1:
            step = len(arrays[0])
        arrays = [np.resize(array, (step, *array.shape[1:])) for array in arrays]
        self._resize(arrays, step)
        self._set(arrays)

    def invoke(self) -> None:
        """Run the file once on the current inputs."""
        if self._has_state:
            self._interpreter.reset_all_variables()
        try:
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            text = " ".join(str(error).split())
            raise ArtifactError(f"the runtime failed on this input: {text}") from None

    def invoke_ms(self, *, wall: bool = False) -> float:
        """Run once and return the milliseconds it took.

        Args:
            wall: Wall time. The default is the CPU time of this thread, which other processes do
                not affect; it is correct for one thread only.
        """
        clock = time.perf_counter_ns if wall else time.thread_time_ns
        start = clock()
        self.invoke()
        return (clock() - start) / 1e6

    def arrays(self, x: Any) -> list[np.ndarray]:
        """Return a batch as arrays in the order of `inputs`.

        Raises:
            DataError: The data does not fit the inputs.
        """
        return one_batch(x, inputs_of_specs(self.inputs), "x")

    def _resize(self, arrays: Iterable[np.ndarray], step: int) -> None:
        changed = not self._allocated
        for detail, array in zip(self._interpreter.get_input_details(), arrays, strict=True):
            shape = [step, *array.shape[1:]]
            if list(detail["shape"]) != shape:
                self._interpreter.resize_tensor_input(detail["index"], shape)
                changed = True
        if changed:
            try:
                self._interpreter.allocate_tensors()
            except (RuntimeError, ValueError) as error:
                text = " ".join(str(error).split())
                raise ArtifactError(
                    f"the file does not accept inputs of this shape: {text}"
                ) from None
            self._allocated = True

    def _set(self, arrays: Iterable[np.ndarray]) -> None:
        details = self._interpreter.get_input_details()
        for detail, spec, array in zip(details, self.inputs, arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], quantize(array, spec))

    def _outputs(self) -> list[np.ndarray]:
        found = []
        for detail, spec in zip(self._interpreter.get_output_details(), self.outputs, strict=True):
            try:
                tensor = self._interpreter.get_tensor(detail["index"])
            except ValueError:
                raise ArtifactError(
                    f"output {spec.name!r} has no numbers after a run: no operation of the file "
                    "computes it; convert the model again"
                ) from None
            found.append(dequantize(tensor, spec))
        return found
