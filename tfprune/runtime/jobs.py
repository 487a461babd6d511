"""Jobs of a child process on a `.tflite` file: run it, return intermediate tensors."""

from typing import Any

import numpy as np

from tfprune.runtime import flatbuffer, stored_numbers
from tfprune.runtime.interpreter import open_interpreter
from tfprune.runtime.litert import Runner
from tfprune.workers.arrays import load_arrays, save_arrays


def run(path: str, inputs: str, outputs: str, threads: int = 1) -> None:
    """Run a file on the arrays of one `.npz` and write its float outputs to another."""
    with open(path, "rb") as file:
        runner = Runner.trusting(file.read(), threads=threads)
    save_arrays(outputs, runner.run_named(load_arrays(inputs)))


def trace(path: str, inputs: str, outputs: str) -> None:
    """Write every tensor that a file computes on samples, by index, as an `.npz`."""
    with open(path, "rb") as file:
        data = file.read()
    contents = flatbuffer.parse(data)
    graph, (specs, _) = contents.subgraphs[0], stored_numbers.specs(contents)
    interpreter = open_interpreter(data, preserve_all=True, allocate=False)
    arrays = load_arrays(inputs)
    samples = [stored_numbers.quantize(arrays[spec.name], spec) for spec in specs]
    details = interpreter.get_input_details()
    step = max(1, specs[0].shape[0])
    for detail, array in zip(details, samples, strict=True):
        interpreter.resize_tensor_input(detail["index"], [step, *array.shape[1:]])
    interpreter.allocate_tensors()
    kept = {
        index: stored_numbers.tensor_spec(graph.tensors[index])
        for op in graph.ops
        for index in op.outputs
        if graph.tensors[index].dtype in ("float32", "int8", "int16")
    }
    found: dict[int, list[np.ndarray]] = {index: [] for index in kept}
    for start in range(0, len(samples[0]) - step + 1, step):
        for detail, array in zip(details, samples, strict=True):
            interpreter.set_tensor(detail["index"], array[start : start + step])
        interpreter.invoke()
        for index, spec in kept.items():
            value = _value(interpreter, index)
            if value is not None:
                found[index].append(stored_numbers.dequantize(value, spec))
    shown = {str(i): np.concatenate(v) for i, v in found.items() if v and v[0].ndim}
    save_arrays(outputs, shown)


def _value(interpreter: Any, index: int) -> np.ndarray | None:
    """Return the value of a tensor; None in a loop, whose tensors the runtime does not keep."""
    try:
        return interpreter.get_tensor(index)
    except ValueError as error:
        if "Tensor data is null" not in str(error):
            raise
        return None
