"""Running ONNX files with ONNX Runtime, without TensorFlow.

Files are loaded in this process; callers use a child process, as for `.tflite` files.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfprune.data.model_inputs import inputs_of_specs
from tfprune.errors import ArtifactError
from tfprune.runtime.artifact import TensorSpec
from tfprune.workers.arrays import load_arrays, save_arrays

ENDING = ".onnx"

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "bool": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def is_onnx(data: bytes) -> bool:
    """Return whether bytes start like an ONNX file: with its format version, a small number.

    Example:
        >>> is_onnx(bytes([8, 8, 18, 7]) + b"tf2onnx"), is_onnx(bytes([28, 0, 0, 0]) + b"TFL3")
        (True, False)
    """
    return len(data) > 2 and data[0] == 0x08 and data[1] < 0x20 and data[4:8] != b"TFL3"


class OnnxRunner:
    """A loaded ONNX file.

    Raises:
        ArtifactError: The runtime cannot load the file.
    """

    def __init__(self, data: bytes, threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        self._failures = failures()
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except self._failures as error:
            raise ArtifactError(f"ONNX Runtime refuses it: {_line(error)}") from None
        self.inputs = tuple(map(_spec, self._session.get_inputs()))
        self.outputs = tuple(map(_spec, self._session.get_outputs()))
        self._binding = self._session.io_binding()

    def run_named(self, x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs by name, run in pieces of the file's own batch (1, when open).

        Raises:
            DataError: An input is missing or unknown.
            ArtifactError: The runtime fails on this input.
        """
        arrays = self._arrays(x)
        count = len(next(iter(arrays.values())))
        step = max(1, *(spec.shape[0] for spec in self.inputs))
        pieces = []
        for start in range(0, count, step):
            index = np.arange(start, start + step) % count
            try:
                found = self._session.run(
                    None, {name: array[index] for name, array in arrays.items()}
                )
            except self._failures as error:
                raise ArtifactError(f"ONNX Runtime failed on this input: {_line(error)}") from None
            pieces.append([part[: count - start] for part in found])
        return {
            spec.name: np.concatenate([piece[i] for piece in pieces])
            for i, spec in enumerate(self.outputs)
        }

    def prepare(self, x: Mapping[str, np.ndarray]) -> None:
        """Bind inputs, so that `invoke` can be timed without copying."""
        import onnxruntime

        binding = self._session.io_binding()
        for name, array in self._arrays(x).items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            binding.bind_ortvalue_input(name, value)
        for spec in self.outputs:
            binding.bind_output(spec.name)
        self._binding = binding

    def invoke(self) -> None:
        """Run the file once on the current inputs."""
        try:
            self._session.run_with_iobinding(self._binding)
        except self._failures as error:
            raise ArtifactError(f"ONNX Runtime failed on this input: {_line(error)}") from None

    def _arrays(self, x: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = zip(self.inputs, inputs_of_specs(self.inputs).in_order(x, "x"), strict=True)
        return {spec.name: np.asarray(array, spec.dtype) for spec, array in arrays}


def run_onnx(path: str, inputs: str, outputs: str) -> list[list[dict[str, Any]]]:
    """Run a file on the arrays of one `.npz` and write its outputs to another; for a child.

    Returns:
        Its inputs and outputs, each as the fields of a `TensorSpec`.
    """
    with open(path, "rb") as file:
        runner = OnnxRunner(file.read())
    save_arrays(outputs, runner.run_named(load_arrays(inputs)))
    return [list(map(dataclasses.asdict, specs)) for specs in (runner.inputs, runner.outputs)]


def failures() -> tuple[type[Exception], ...]:
    """Return the exceptions of ONNX Runtime, which have no common base class."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.EPFail, state.EngineError, state.Fail, state.InvalidArgument, state.InvalidGraph,
        state.InvalidProtobuf, state.ModelLoaded, state.NoModel, state.NoSuchFile,
        state.NotImplemented, state.RuntimeException, RuntimeError,
    )  # fmt: skip


def _spec(argument: Any) -> TensorSpec:
    kind = argument.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _DTYPES:
        raise ArtifactError(
            f"{argument.name!r} is a {argument.type}, which is not an array of numbers"
        )
    shape = tuple(size if isinstance(size, int) else -1 for size in argument.shape)
    return TensorSpec(argument.name, shape, _DTYPES[kind])


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
