"""Jobs in a child process, which may crash or hang without taking the caller along.

The converter and some kernels of the runtime end the process on certain models and files. A job is
a function, or a generator that answers several times. Both sides write one JSON object a line:

    {"job": "module:function", "arguments": [...]}    the parent asks
    {"answer": value}                                 the child: what the job returns or yields
    {"done": true}                                    the job came to its end
    {"error": "TypeOfError", "text": "..."}           or it raised

`run_job` uses a child that lives on for the next job (importing TensorFlow takes seconds) and
leaves by itself when it has had nothing to do for a minute or its parent is gone. `stream_job`
starts a child for one job, here or on another machine.
"""

import atexit
import json
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from tfprune.errors import TfpruneError
from tfprune.workers.process import LineProcess, memory_limit, module_command, module_environment

LOAD_LIMIT_S = 120.0
CONVERT_LIMIT_S = 1200.0
MODULE = "tfprune.workers.main"
"""What `python -m` starts as a child; it takes the kind of child."""


class ChildError(TfpruneError, RuntimeError):
    """A job in the child process did not end well; the message is one line."""


class JobError(ChildError):
    """The job raised an exception.

    `kind` is the name of its type, `text` its text in one line.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text = kind, text


class CrashError(ChildError):
    """The child process died; the message names the signal and the last line it wrote.

    Attributes:
        code: Its exit code; below 0 that of a signal.
        last_line: The last line that it wrote to its standard error.
    """

    def __init__(self, child: LineProcess) -> None:
        self.code, self.last_line = child.code(), child.last_stderr_line()
        limit = memory_limit()
        allowed = f", with {limit / 2**30:.1f} GiB of memory allowed" if limit else ""
        message = f"the process died ({child.ending()}{allowed})"
        super().__init__(f"{message}: {self.last_line}" if self.last_line else message)


class LimitError(ChildError):
    """The job took longer than its limit for an answer, and the child was ended."""


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
    with _LOCK:
        kept = _CHILDREN.get(kind)
        if kept is not None and kept.owner == os.getpid():
            try:
                if kept.alive():
                    return kept.answer(job, arguments, limit_s)
            except CrashError as error:
                # Code 0: it left just now, since it had nothing to do for a minute.
                if error.code != 0:
                    raise
            kept.end()
        child = _CHILDREN[kind] = _Child(module_command(MODULE, kind))
        return child.answer(job, arguments, limit_s)


def stream_job(
    job: Callable[..., Iterator[Any]],
    *arguments: Any,
    limit_s: float,
    command: Sequence[str] | None = None,
) -> Generator[Any, None, None]:
    """Yield what a generator yields in a child process of its own; a reader who leaves ends it.

    Args:
        job: The generator, one that its module names.
        *arguments: Its positional arguments, of what JSON can hold.
        limit_s: Seconds without an answer after which the child is ended.
        command: What starts the child; by default it is one of kind "runtime" on this machine.

    Raises:
        JobError: The generator raised.
        CrashError: The child died.
        LimitError: Time was up.
    """
    child = _Child(command or module_command(MODULE, "runtime"))
    try:
        yield from child.answers(job, arguments, limit_s)
    finally:
        child.end()


def close_children() -> None:
    """End the children that wait for work; the next job starts a new one."""
    with _LOCK:
        for child in _CHILDREN.values():
            if child.owner == os.getpid():
                child.end()
        _CHILDREN.clear()


class _Child(LineProcess):
    def __init__(self, command: Sequence[str]) -> None:
        self.owner = os.getpid()
        environment = {
            **module_environment(),
            "PYTHONWARNINGS": "ignore",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "-1",
        }
        super().__init__(command, environment)

    def answer(self, job: Callable[..., Any], arguments: Sequence[Any], limit_s: float) -> Any:
        """Return the one answer of a job."""
        [answer] = self.answers(job, arguments, limit_s)
        return answer

    def answers(
        self, job: Callable[..., Any], arguments: Sequence[Any], limit_s: float
    ) -> Iterator[Any]:
        """Yield the answers of a job; a child whose job has not come to its end is ended."""
        self.clear_stderr()
        name = f"{job.__module__}:{job.__qualname__}"
        ended = False
        try:
            # Whether the child is there to take it shows when its answer is read.
            self.send(json.dumps({"job": name, "arguments": arguments}).encode())
            while not ended:
                line = self.receive(limit_s)
                if not line:
                    raise CrashError(self)
                said = json.loads(line)
                ended = "answer" not in said
                if "error" in said:
                    raise JobError(said["error"], said["text"])
                if not ended:
                    yield said["answer"]
        except TimeoutError:
            raise LimitError(f"took longer than its limit of {limit_s:g} s") from None
        finally:
            # What it may still say would be taken for answers to the next job.
            if not ended:
                self.end()


_LOCK = threading.RLock()
_CHILDREN: dict[str, _Child] = {}
atexit.register(close_children)
