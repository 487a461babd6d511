"""Temporary folders and files that the next run removes when the process they are of is killed.

Whoever works in one holds a lock on it. The system lets go of the lock when the process ends,
however it ends, so that what nobody holds is nobody's any more.
"""

import contextlib
import functools
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock; what a killed run leaves stays there
    fcntl = None  # type: ignore[assignment]

_PREFIX = "tfprune-"
_NAME = re.compile(re.escape(_PREFIX) + r"[a-z0-9_]{8}")
_HELD = ".held-by-its-process"
"""The file in a temporary folder that its process holds; a folder without it is not ours."""
_SUFFIX = "[0-9a-f]{8}"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give the path of a new temporary folder for the length of a `with` block."""
    _sweep_once()
    with contextlib.ExitStack() as stack:
        held = False
        while not held:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX))
            handle = os.open(Path(folder, _HELD), os.O_RDWR | os.O_CREAT, 0o600)
            stack.callback(os.close, handle)
            held = _hold(handle)
        inner = Path(folder, "files")
        inner.mkdir()
        yield inner


def open_beside(target: Path) -> tuple[int, Path]:
    """Make a file under a temporary name beside another, and remove those that killed runs left.

    Args:
        target: The name that it is to get in the end.

    Returns:
        A handle to write to, to be closed by the caller, and the temporary name.
    """
    _sweep_beside(target)
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        # With the rights that any new file gets, which those of `tempfile` are not.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        if _hold(handle):
            return handle, path
        os.close(handle)


def sweep() -> None:
    """Remove the temporary folders of this user whose processes are gone."""
    if fcntl is None:
        return
    with os.scandir(tempfile.gettempdir()) as entries:
        found = [Path(entry) for entry in entries if _NAME.fullmatch(entry.name)]
    for folder in found:
        with contextlib.suppress(OSError):  # Another run was faster.
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                with _free(folder / _HELD):
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
        with contextlib.suppress(OSError), _free(path):  # Held, or another run was faster.
            path.unlink()


@contextlib.contextmanager
def _free(path: Path) -> Iterator[None]:
    """Hold a file for the length of a `with` block; OSError where its process still does."""
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _hold(handle: int) -> bool:
    """Hold a file until it is closed; False where it was swept away just before."""
    if fcntl is None:
        return True
    with contextlib.suppress(OSError):  # Some network drives have no locks: nothing holds there.
        fcntl.flock(handle, fcntl.LOCK_EX)
    return os.fstat(handle).st_nlink > 0
