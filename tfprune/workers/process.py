"""A process that answers line by line, and may crash or hang without taking the caller along."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

try:
    import resource
except ImportError:  # Windows has no such limits.
    resource = None  # type: ignore[assignment]

_TAIL_BYTES = 4000


def module_command(module: str, *arguments: str) -> list[str]:
    """Return what starts a module of this package; see `module_environment`."""
    # -P: a module in the current folder must not stand in for one of ours.
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment() -> dict[str, str]:
    """Return the variables by which such a module finds this very package."""
    package_folder = str(Path(__file__).resolve().parents[2])
    paths = [package_folder, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def ignore_signals() -> None:
    """Ignore what asks a whole group of processes to end: the parent is asked, and ends this one.

    A child that ended before would be taken for one that crashed.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def limit_memory(most_bytes: int) -> None:
    """Let this process take so much memory at most, or less where it may take less already."""
    if resource is None:
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    known = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([most_bytes, *known]), limits[1]))


def memory_limit() -> int | None:
    """Return how much memory this process and those it starts may take; None without a limit."""
    if resource is None:
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if limit == resource.RLIM_INFINITY else limit


class LineProcess:
    """A running process.

    Args:
        command: What starts it.
        environment: Variables to set for it, beside those of this process.

    Example:
        >>> process = LineProcess([sys.executable, "-c", "print(input().upper())"], {})
        >>> process.send(b"hello")
        True
        >>> process.receive(timeout_s=60)
        b'HELLO\\n'
        >>> process.receive(timeout_s=60)
        b''
        >>> process.ending()
        'exit code 0'
        >>> process.end()
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **environment},
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        # A thread, since a pipe cannot be read with a time limit on every system.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def alive(self) -> bool:
        """Tell whether it is running."""
        return self._process.poll() is None

    def send(self, line: bytes) -> bool:
        """Write a line to its standard input; False if it is gone."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(line + b"\n")
            stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def receive(self, timeout_s: float) -> bytes:
        """Return the next line that it writes; empty when it writes no more.

        Raises:
            TimeoutError: It wrote nothing for so long.
        """
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError from None

    def code(self) -> int:
        """Wait for its end and return its exit code; below 0 that of a signal."""
        return self._process.wait()

    def ending(self) -> str:
        """Wait for its end and return how it came."""
        code = self.code()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def last_stderr_line(self) -> str:
        """Return the last line that it wrote to its standard error, but for what only informs."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - _TAIL_BYTES))
        text = self._errors.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines()]
        # Of each file that it loads, LiteRT says on such a line which delegate runs it.
        telling = [line for line in lines if line and not line.startswith("INFO: ")]
        return telling[-1] if telling else ""

    def clear_stderr(self) -> None:
        """Drop what it wrote to its standard error so far."""
        self._errors.seek(0)
        self._errors.truncate()

    def end(self) -> None:
        """End it, whatever it does."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        self._process.kill()
        self._process.wait()
        # What it started itself may hold its output open until its input ends.
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        self._reader.join()
        stdout.close()
        self._errors.close()
