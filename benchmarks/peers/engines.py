"""A worker that runs files in one engine: `litert`, `onnxruntime` or `deepsparse`.

Jobs: {"load": path, "name": name, "inputs": npz} -> {"calls": how many make a sample};
{"run": name} -> {"cpu_ms", "wall_ms"} of a call; {"answer": name, "outputs": npz} -> {}.
DeepSparse runs in an environment of its own, where nothing of tfprune is installed.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from workers import Job, serve

SAMPLE_MS = 20.0

Run = Callable[[], Any]


def litert(path: str, x: Any) -> tuple[Run, Run]:
    """Return what runs a .tflite once, and what runs it and gives its output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, x)
    output = interpreter.get_output_details()[0]["index"]

    def answer() -> Any:
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return interpreter.invoke, answer


def onnxruntime(path: str, x: Any) -> tuple[Run, Run]:
    """Return what runs an .onnx once in ONNX Runtime, and what gives its output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, feed), lambda: session.run(None, feed)[0]


def deepsparse(path: str, x: Any) -> tuple[Run, Run]:
    """Return what runs an .onnx once in DeepSparse, and what gives its output."""
    from deepsparse import Engine

    engine = Engine(model=path, batch_size=len(x), num_cores=1)
    return lambda: engine.run([x]), lambda: engine.run([x])[0]


ENGINES = {"litert": litert, "onnxruntime": onnxruntime, "deepsparse": deepsparse}


def main() -> None:
    """Answer jobs with one engine."""
    build = ENGINES[sys.argv[1]]
    loaded: dict[str, tuple[Run, Run, int]] = {}

    def answer(job: Job) -> Job:
        if "load" in job:
            run, give = build(job["load"], np.load(job["inputs"])["x"])
            for _ in range(3):
                run()
            start = time.perf_counter()
            run()
            calls = max(1, round(SAMPLE_MS / 1e3 / max(time.perf_counter() - start, 1e-6)))
            loaded[job["name"]] = run, give, calls
            return {"calls": calls}
        if "answer" in job:
            np.savez(job["outputs"], y=np.asarray(loaded[job["answer"]][1]()))
            return {}
        run, _, calls = loaded[job["run"]]
        run()
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(calls):
            run()
        return {
            "cpu_ms": (time.process_time() - cpu) / calls * 1e3,
            "wall_ms": (time.perf_counter() - wall) / calls * 1e3,
        }

    serve(answer)


if __name__ == "__main__":
    main()
