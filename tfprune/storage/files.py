"""Atomic writes, and paths checked before any work is done."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfprune.errors import ArtifactError, OptionError
from tfprune.storage.scratch import open_beside


def as_path(path: Any) -> Path:
    """Return the argument as a Path.

    Raises:
        OptionError: It is neither a string nor a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"path: expected a file name. Received {path!r}")
    return Path(path)


def check_destination(path: str | os.PathLike[str]) -> Path:
    """Check that a file can be written to a path, leave nothing behind, and return the path.

    Raises:
        OptionError: It is a folder, is below a file, or cannot be written.
    """
    target = as_path(path)
    if "\0" in str(target):
        raise OptionError(f"path: {str(target)!r}: a name cannot contain a null character")
    try:
        kind = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        kind = stat.S_IFREG
    except OSError as error:
        raise OptionError(f"path: {target} ({error.strerror}); choose another path") from None
    if stat.S_ISDIR(kind):
        raise OptionError(f"path: {target} is a folder; give the name of a file in it")
    if not stat.S_ISREG(kind):
        raise OptionError(f"path: {target} is a device or a pipe; give the name of a file")
    above = next(folder for folder in _real_path(target).parents if os.path.lexists(folder))
    if not above.is_dir():
        what = "a file" if above.exists() else "a broken link"
        raise OptionError(f"path: {target} is below {above}, {what}; choose another path")
    try:
        tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        raise OptionError(
            f"path: {target}: cannot write to {above} ({error.strerror}); choose another path"
        ) from None
    return target


def read_bytes(path: str | os.PathLike[str], fix: str) -> bytes:
    """Return the content of a file.

    `fix` says how to create it, for the error if it is missing.

    Raises:
        ArtifactError: It is missing or cannot be read.
    """
    source = as_path(path)
    try:
        if source.is_char_device():  # /dev/zero has no end
            raise ArtifactError(f"{source}: is a device; name a file")
        return source.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{source}: no such file; {fix}") from None
    except OSError as error:
        raise ArtifactError(f"{source}: cannot be read ({error.strerror})") from None


def parse_json(text: str | bytes, *, nan: bool = False) -> Any:
    """Parse JSON text.

    Args:
        text: Text, or bytes in UTF-8, UTF-16 or UTF-32.
        nan: Accept NaN and infinity too, which Python writes although JSON does not allow them.

    Raises:
        ValueError: It is not JSON; a one-line message.

    Example:
        >>> parse_json("[1, NaN]")
        Traceback (most recent call last):
        ValueError: NaN is not allowed in JSON
    """
    import json  # `tfprune --help` needs none

    try:
        return json.loads(text, parse_constant=None if nan else _refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not allowed in JSON")


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write `data` to `path` atomically: no reader sees a partial file.

    It is written under a temporary name in the same folder, flushed to disk, and renamed. A missing
    folder is created. Text is written as UTF-8.

    Raises:
        OptionError: The path cannot be written.
    """
    (target,) = write_together({as_path(path): data})
    return target


def write_together(files: Mapping[Path, bytes | str]) -> tuple[Path, ...]:
    """Write several files as `write_atomic` does; if one cannot be written, write none.

    Raises:
        OptionError: The path cannot be written.
        OSError: Writing failed, as on a full disk; existing files are unchanged.
    """
    targets = [check_destination(path) for path in files]
    with contextlib.ExitStack() as stack:
        staged = []
        for target, data in zip(targets, files.values(), strict=True):
            content = data.encode() if isinstance(data, str) else data
            staged.append(stack.enter_context(_staged(_real_path(target), content)))
        for temporary, target in zip(staged, targets, strict=True):
            os.replace(temporary, _real_path(target))
    return tuple(targets)


def _real_path(target: Path) -> Path:
    """Return the path to write to: for a link, the file it points to."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target.absolute()


@contextlib.contextmanager
def _staged(target: Path, content: bytes) -> Iterator[Path]:
    """Write content under a temporary name next to its target, and yield that name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = open_beside(target)
    try:
        with os.fdopen(handle, "wb") as file:
            with _naming(target):
                if target.exists():
                    os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Add the file's name to OS errors of a `with` block: an error of `write` has none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from None
