"""Workers: long-lived processes of their own that answer jobs over pipes.

tf_keras and Keras 3 do not share a process well, so each generation gets one. A job is a line of
JSON on the worker's standard input, its answer a line of JSON on its standard output.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

Job = dict[str, Any]
Cost = dict[str, float]

HERE = Path(__file__).parent


def peer_versions() -> str:
    """Return the peer's versions, in words."""
    names = ("tensorflow-model-optimization", "tf_keras")
    return "The peer: " + ", ".join(f"{name} {version(name)}" for name in names) + "."


class WorkerError(RuntimeError):
    """A worker ended before it answered; its own error is on standard error."""


class Worker:
    """A running worker script of benchmarks/peers/.

    Args:
        script: Its file name.
        peer: `tfprune` (Keras 3) or `tfmot` (tf_keras), or what else the script takes.
        python: The interpreter, where the peer lives in another environment.
    """

    def __init__(self, script: str, peer: str, python: str = sys.executable) -> None:
        self.name = f"{script} {peer}"
        environment = {**os.environ, "PYTHONPATH": str(HERE), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if peer == "tfmot":
            environment["TF_USE_LEGACY_KERAS"] = "1"
        self._process = subprocess.Popen(
            [python, str(HERE / "peers" / script), peer],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def ask(self, job: Job) -> Job:
        """Send a job and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(job), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise WorkerError(f"{self.name} has ended") from None
        answer = self._process.stdout.readline()
        if not answer.endswith("\n"):
            raise WorkerError(f"{self.name} ended during {job}")
        result: Job = json.loads(answer)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve(answer: Callable[[Job], Job]) -> None:
    """Answer jobs until standard input ends: the worker's side."""
    # Whatever else prints to standard output must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


@contextmanager
def stopwatch(cost: Cost) -> Iterator[None]:
    """Write down how long something takes: `cpu_seconds` of all threads, and `wall_seconds`."""
    cpu, wall = time.process_time(), time.perf_counter()
    yield
    cost["cpu_seconds"] = time.process_time() - cpu
    cost["wall_seconds"] = time.perf_counter() - wall


@contextmanager
def memory_growth(cost: Cost) -> Iterator[None]:
    """Write down `peak_bytes`: what the resident set grows by at its peak (Linux only)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _status_bytes("VmRSS")
    yield
    cost["peak_bytes"] = _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))
