"""Work in a child process that may crash or hang without taking the caller along.

The converter and some kernels of the runtime end the process on certain models and files. Such
work is sent to a child, which lives on for the next job (importing TensorFlow takes seconds) and
leaves by itself when it has had nothing to do for a minute or its parent is gone.
"""

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

from tfprune.errors import TfpruneError

LOAD_LIMIT_S = 120.0
CONVERT_LIMIT_S = 1200.0

_TAIL_BYTES = 4000


class ChildError(TfpruneError, RuntimeError):
    """A job in the child process did not end well."""


class JobError(ChildError):
    """The job raised an exception; the message is its type and text."""


class CrashError(ChildError):
    """The child process died; the message names the signal and the last lines it wrote."""


class LimitError(ChildError):
    """The job took longer than its limit, and the child was ended."""


def run_job(job: str, *arguments: Any, limit_s: float, kind: str = "runtime") -> Any:
    """Run a function in a child process.

    Args:
        job: The function, as `package.module:function`.
        *arguments: Its positional arguments, of what JSON can hold.
        limit_s: Seconds after which the child is ended.
        kind: "runtime" (its memory is limited) or "converter".

    Returns:
        What the function returned.

    Raises:
        JobError: The function raised.
        CrashError: The child died.
        LimitError: Time was up.

    Example:
        >>> run_job("math:sqrt", 9, limit_s=60)
        3.0
    """
    request = json.dumps({"job": job, "arguments": arguments}).encode() + b"\n"
    with _LOCK:
        child: _Child | None = _CHILDREN.get(kind)
        fresh = child is None or child.owner != os.getpid() or not child.alive()
        if child is None or fresh:
            child = _start(kind)
        reply = child.ask(request, limit_s)
        if reply is None and not fresh and child.left_idle():
            child = _start(kind)
            reply = child.ask(request, limit_s)
        if reply is None:
            raise CrashError(child.obituary())
    if "error" in reply:
        raise JobError(reply["error"])
    return reply["result"]


def close_children() -> None:
    """End the children that wait for work; the next job starts a new one."""
    with _LOCK:
        for child in _CHILDREN.values():
            if child.owner == os.getpid():
                child.end()
        _CHILDREN.clear()


def _start(kind: str) -> "_Child":
    old = _CHILDREN.get(kind)
    if old is not None and old.owner == os.getpid():
        old.end()
    child = _CHILDREN[kind] = _Child(kind)
    return child


class _Child:
    def __init__(self, kind: str) -> None:
        self.owner = os.getpid()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        package_folder = str(Path(__file__).resolve().parents[2])
        paths = [package_folder, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONWARNINGS": "ignore",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        # -P: a module in the current folder must not stand in for one of ours.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tfprune.deploy.worker", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
        )
        self._replies: queue.Queue[bytes] = queue.Queue()
        # A thread, since a pipe cannot be read with a time limit on every system.
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._replies.put(line)
        self._replies.put(b"")

    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: bytes, limit_s: float) -> dict[str, Any] | None:
        """Return the reply; None when the child is gone."""
        self._errors.seek(0)
        self._errors.truncate()
        stdin: IO[bytes] | None = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(request)
            stdin.flush()
            line = self._replies.get(timeout=limit_s)
        except BrokenPipeError:
            line = b""
        except queue.Empty:
            self.end()
            raise LimitError(f"took longer than its limit of {limit_s:g} s") from None
        except BaseException:
            # Interrupted: the reply would be taken for that of the next job.
            self.end()
            raise
        return json.loads(line) if line else None

    def left_idle(self) -> bool:
        return self._process.wait() == 0

    def obituary(self) -> str:
        code = self._process.wait()
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _TAIL_BYTES))
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the process died ({cause})" + (f": {lines[-1].strip()}" if lines else "")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


_LOCK = threading.RLock()
_CHILDREN: dict[str, _Child] = {}
atexit.register(close_children)
