"""Temporary folders and files that the next run removes if their process was killed.

The process that uses one locks it. The system releases the lock when the process ends, however it
ends, so that an unlocked one can be removed.
"""

import contextlib
import functools
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock; files of killed runs are not removed there
    fcntl = None  # type: ignore[assignment]

_PREFIX = "tfprune-"
_NAME = re.compile(re.escape(_PREFIX) + r"[a-z0-9_]{8}")
_LOCK_FILE = ".held-by-its-process"
"""The lock file in a temporary folder; a folder without it was not made by tfprune."""
_SUFFIX = "[0-9a-f]{8}"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield the path of a new temporary folder for a `with` block."""
    _sweep_once()
    with contextlib.ExitStack() as stack:
        locked = False
        while not locked:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX))
            handle = os.open(Path(folder, _LOCK_FILE), os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, handle)
            locked = _lock(handle)
        inner = Path(folder, "files")
        inner.mkdir()
        yield inner


def open_beside(target: Path) -> tuple[int, Path]:
    """Create a file under a temporary name next to another; remove those of killed runs.

    Returns a handle to write to, which the caller closes, and the temporary name.
    """
    _sweep_beside(target)
    while True:
        path = target.with_name(f".{target.name}.{os.urandom(4).hex()}")
        # The umask applies, as for any new file; `tempfile` would use 0o600.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if _lock(handle):
            return handle, path
        os.close(handle)


def sweep() -> None:
    """Remove this user's temporary folders whose processes have ended."""
    if fcntl is None:
        return
    with os.scandir(tempfile.gettempdir()) as entries:
        found = [Path(entry) for entry in entries if _NAME.fullmatch(entry.name)]
    for folder in found:
        with contextlib.suppress(OSError):  # Another run was faster.
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                with _locked(folder / _LOCK_FILE):
                    shutil.rmtree(folder)


@functools.cache
def _sweep_once() -> None:
    sweep()


def _sweep_beside(target: Path) -> None:
    if fcntl is None:
        return
    name = re.compile(re.escape(f".{target.name}.") + _SUFFIX)
    with os.scandir(target.parent) as entries:
        found = [Path(entry) for entry in entries if name.fullmatch(entry.name)]
    for path in found:
        with contextlib.suppress(OSError), _locked(path):  # Locked, or another run was faster.
            path.unlink()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a file for a `with` block; raise OSError if its process still holds the lock."""
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Lock a file until it is closed; return False if it was removed just before."""
    if fcntl is None:
        return True
    with contextlib.suppress(OSError):  # Some network drives have no locks.
        fcntl.flock(handle, fcntl.LOCK_EX)
    return os.fstat(handle).st_nlink > 0
