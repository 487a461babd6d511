"""Work in a child process that may crash or hang without taking the caller along.

The converter and some kernels of the runtime end the process on certain models and files. Such
work is sent to a child, which lives on for the next job (importing TensorFlow takes seconds) and
leaves by itself when it has had nothing to do for a minute or its parent is gone.
"""

import atexit
import json
import os
import threading
from collections.abc import Callable
from typing import Any

from tfprune.errors import TfpruneError
from tfprune.workers.process import LineProcess, memory_limit, module_command, module_environment

LOAD_LIMIT_S = 120.0
CONVERT_LIMIT_S = 1200.0


class ChildError(TfpruneError, RuntimeError):
    """A job in the child process did not end well."""


class JobError(ChildError):
    """The job raised an exception; the message is its type and text."""


class CrashError(ChildError):
    """The child process died; the message names the signal and the last lines it wrote."""


class LimitError(ChildError):
    """The job took longer than its limit, and the child was ended."""


def run_job(job: Callable[..., Any], *arguments: Any, limit_s: float, kind: str = "runtime") -> Any:
    """Run a function in a child process.

    Args:
        job: The function, one that its module names.
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
        >>> import math
        >>> run_job(math.sqrt, 9, limit_s=60)
        3.0
    """
    name = f"{job.__module__}:{job.__qualname__}"
    request = json.dumps({"job": name, "arguments": arguments}).encode()
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
            raise CrashError(child.exit_message())
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


class _Child(LineProcess):
    def __init__(self, kind: str) -> None:
        self.owner = os.getpid()
        environment = {
            **module_environment(),
            "PYTHONWARNINGS": "ignore",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        super().__init__(module_command("tfprune.workers.main", kind), environment)

    def ask(self, request: bytes, limit_s: float) -> dict[str, Any] | None:
        """Return the reply; None when the child is gone."""
        self.clear_stderr()
        try:
            line = self.receive(limit_s) if self.send(request) else b""
        except TimeoutError:
            self.end()
            raise LimitError(f"took longer than its limit of {limit_s:g} s") from None
        except BaseException:
            # Interrupted: the reply would be taken for that of the next job.
            self.end()
            raise
        return json.loads(line) if line else None

    def left_idle(self) -> bool:
        return self.code() == 0

    def exit_message(self) -> str:
        words, limit = self.last_stderr_line(), memory_limit()
        allowed = f", with {limit / 2**30:.1f} GiB of memory allowed" if limit else ""
        return f"the process died ({self.ending()}{allowed})" + (f": {words}" if words else "")


_LOCK = threading.RLock()
_CHILDREN: dict[str, _Child] = {}
atexit.register(close_children)
