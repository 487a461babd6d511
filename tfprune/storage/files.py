"""Files that appear whole or not at all, and paths that are refused before any work is done."""

import contextlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tfprune.errors import ArtifactError, OptionError
from tfprune.storage.scratch import open_beside


def as_path(path: Any) -> Path:
    """Return a path; refuse what is none.

    Raises:
        OptionError: It is neither a string nor a path.
    """
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"path: expected the name of a file, got {path!r}")
    return Path(path)


def check_destination(path: str | os.PathLike[str]) -> Path:
    """Return a path after making sure that a file can be written there; nothing is left behind.

    Raises:
        OptionError: It is a folder, lies below a file, or where nothing can be written.
    """
    target = as_path(path)
    if "\0" in str(target):
        raise OptionError(f"path: {str(target)!r}: no null character can be in a name")
    try:
        kind = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        kind = stat.S_IFREG
    except OSError as error:
        raise OptionError(f"path: {target} ({error.strerror}); name another place") from None
    if stat.S_ISDIR(kind):
        raise OptionError(f"path: {target} is a folder; give the name of a file in it")
    if not stat.S_ISREG(kind):
        raise OptionError(f"path: {target} is a device or a pipe; give the name of a file")
    above = next(folder for folder in _landing(target).parents if os.path.lexists(folder))
    if not above.is_dir():
        what = "a file" if above.exists() else "a link to nothing"
        raise OptionError(f"path: {target} lies below {above}, {what}; name another place")
    try:
        tempfile.TemporaryFile(dir=above).close()
    except OSError as error:
        raise OptionError(
            f"path: {target} cannot be written to {above} ({error.strerror}); name another place"
        ) from None
    return target


def read_bytes(path: str | os.PathLike[str], fix: str) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        fix: What makes one, for the error where there is none.

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
    """Return what JSON text says.

    Args:
        text: Bytes are of UTF-8, or of UTF-16 or UTF-32.
        nan: Take NaN and infinity too, which Python writes and which are no JSON.

    Raises:
        ValueError: It is none, in one line.

    Example:
        >>> parse_json("[1, NaN]")
        Traceback (most recent call last):
        ValueError: NaN is no number of JSON
    """
    try:
        return json.loads(text, parse_constant=None if nan else _refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> Path:
    """Write `data` to `path` so that no reader ever sees half of it.

    It is written under a temporary name in the same folder, flushed to disk, and renamed.

    Args:
        path: The final name. Its folder is made when missing.
        data: Bytes, or text that is written as UTF-8.

    Returns:
        The path written.

    Raises:
        OptionError: Nothing can be written there.
    """
    (target,) = write_together({as_path(path): data})
    return target


def write_together(files: Mapping[Path, bytes | str]) -> tuple[Path, ...]:
    """Write files that belong together, each as `write_atomic` does; none, if one cannot be.

    Args:
        files: What to write where; they appear in this order.

    Returns:
        The paths written.

    Raises:
        OptionError: Nothing can be written there.
        OSError: Writing failed, as on a full disk; what was there before is as it was.
    """
    targets = [check_destination(path) for path in files]
    with contextlib.ExitStack() as stack:
        staged = []
        for target, data in zip(targets, files.values(), strict=True):
            content = data.encode() if isinstance(data, str) else data
            staged.append(stack.enter_context(_staged(_landing(target), content)))
        for temporary, target in zip(staged, targets, strict=True):
            os.replace(temporary, _landing(target))
    return tuple(targets)


def _landing(target: Path) -> Path:
    """Return where a file comes to lie: a link stays one, and what it leads to is written."""
    return Path(os.path.realpath(target)) if target.is_symlink() else target.absolute()


@contextlib.contextmanager
def _staged(target: Path, content: bytes) -> Iterator[Path]:
    """Write content under a temporary name beside its target, and give that name."""
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
    """Name the file in errors of a `with` block: an error of write names none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(target)) from None
