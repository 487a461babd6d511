"""What the child process does: one job after the other (`python -m tfprune.deploy.worker KIND`).

It reads one JSON object a line from its standard input and writes one a line to what was its
standard output; whatever a library prints goes to the standard error.
"""

import importlib
import json
import os
import queue
import sys
import threading
from typing import Any

import numpy as np

from tfprune.deploy.arrays import load_arrays, save_arrays
from tfprune.processes import heed_only_the_parent, limit_memory

_IDLE_S = 60.0
# A damaged file may ask for any amount of memory. Phones have less than this.
_RUNTIME_MEMORY_BYTES = 12 << 30


def load(path: str) -> None:
    """Load a file, and run it once on zeros when its shapes say how large they are."""
    from tfprune.deploy.runtime import open_interpreter

    with open(path, "rb") as file:
        interpreter = open_interpreter(file.read(), allocate=False)
    details = interpreter.get_input_details()
    try:
        interpreter.allocate_tensors()
        for detail in details:
            if detail["dtype"] is np.bytes_:
                return
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError):
        # With sizes open to the caller, zeros of size 1 prove nothing.
        if all(-1 not in detail["shape_signature"][1:] for detail in details):
            raise


def run(path: str, inputs: str, outputs: str, threads: int = 1) -> None:
    """Run a file on the arrays of one `.npz` and write its float outputs to another."""
    from tfprune.deploy.runtime import Runner

    with open(path, "rb") as file:
        runner = Runner.trusting(file.read(), threads=threads)
    save_arrays(outputs, runner.run_named(load_arrays(inputs)))


def trace(path: str, inputs: str, outputs: str) -> None:
    """Write every tensor that a file computes on samples, under its index.

    Args:
        path: The file.
        inputs: An `.npz` with an array for each input.
        outputs: The `.npz` to write.
    """
    from tfprune.deploy import flatbuffer, runtime, stored

    with open(path, "rb") as file:
        data = file.read()
    contents = flatbuffer.parse(data)
    graph, (specs, _) = contents.subgraphs[0], stored.specs(contents)
    interpreter = runtime.open_interpreter(data, preserve_all=True, allocate=False)
    arrays = load_arrays(inputs)
    samples = [stored.quantise(arrays[spec.name], spec) for spec in specs]
    details = interpreter.get_input_details()
    step = max(1, specs[0].shape[0])
    for detail, array in zip(details, samples, strict=True):
        interpreter.resize_tensor_input(detail["index"], [step, *array.shape[1:]])
    interpreter.allocate_tensors()
    kept = {
        index: stored.tensor_spec(graph.tensors[index])
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
                found[index].append(stored.dequantise(value, spec))
    shown = {str(i): np.concatenate(v) for i, v in found.items() if v and v[0].ndim}
    save_arrays(outputs, shown)


def _value(interpreter: Any, index: int) -> np.ndarray | None:
    """What a tensor holds; None for a loop's, of which the runtime keeps nothing afterwards."""
    try:
        return interpreter.get_tensor(index)
    except ValueError as error:
        if "Tensor data is null" not in str(error):
            raise
        return None


def main() -> None:
    """Answer jobs until the input ends or nothing has come for a minute."""
    heed_only_the_parent()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1] == "runtime":
        limit_memory(_RUNTIME_MEMORY_BYTES)
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    while True:
        try:
            request = json.loads(jobs.get(timeout=_IDLE_S))
        except queue.Empty:
            os._exit(0)
        try:
            module, _, function = request["job"].partition(":")
            job = getattr(importlib.import_module(module), function)
            reply = {"result": job(*request["arguments"])}
        except Exception as error:  # noqa: BLE001 - the entry of the process: the parent decides
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _read_jobs(jobs: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        jobs.put(line)
    # The parent is gone; a job under way has nobody to answer.
    os._exit(0)


if __name__ == "__main__":
    main()
