"""Workers: long-lived processes of their own that answer jobs over pipes.

tf_keras and Keras 3 do not share a process well, so each generation gets one. A job is a line of
JSON on the worker's standard input, its answer a line of JSON on its standard output.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

Job = dict[str, Any]

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
        peer: `tfprune` (Keras 3) or `tfmot` (tf_keras).
    """

    def __init__(self, script: str, peer: str) -> None:
        self.name = f"{script} {peer}"
        environment = {**os.environ, "PYTHONPATH": str(HERE), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if peer == "tfmot":
            environment["TF_USE_LEGACY_KERAS"] = "1"
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "peers" / script), peer],
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
