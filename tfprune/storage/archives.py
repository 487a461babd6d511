"""Arrays of an untrusted `.npz`: declared sizes are checked before anything is read."""

import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_MOST_DEFLATED = 1032
"""The largest compression ratio of deflate (zlib's technical details)."""
_HEADERS: dict[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}
_FAULTS = (
    OSError,
    ValueError,
    EOFError,
    RecursionError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,  # A version of the format, or a patch, that zipfile does not support.
)


class ArchiveFault(ValueError):
    """The file is damaged, or not an archive of plain arrays; a one-line message."""


class Archive:
    """An open `.npz` with the names of its arrays, which are read on demand."""

    def __init__(self, archive: zipfile.ZipFile, bytes_there: int) -> None:
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in self._members:
                raise ArchiveFault(f"it contains {name!r} twice")
            _check_member(member, name, bytes_there)
            self._members[name] = member
        self.names = tuple(self._members)

    def read(self, name: str, most_bytes: float = math.inf) -> NDArray[Any]:
        """Return an array.

        Raises:
            ArchiveFault: The array is missing, damaged or too large.
        """
        if name not in self._members:
            raise ArchiveFault(f"it does not contain {name!r}")
        member = self._members[name]
        with _one_fault(), self._archive.open(member) as opened:
            shape, _, dtype = _HEADERS[_version(opened, name)](opened)
            if dtype.hasobject:
                raise ArchiveFault(f"{name!r} contains Python objects, which are not read")
            declared = math.prod(shape) * dtype.itemsize
            there = member.file_size - opened.tell()
            if declared != there or any(size < 0 for size in shape):
                raise ArchiveFault(f"{name!r} declares {declared} bytes and has {there}")
            if declared > most_bytes:
                raise ArchiveFault(f"{name!r} takes {declared} bytes, more than {most_bytes:.0f}")
        with _one_fault(), self._archive.open(member) as opened:
            return npy.read_array(opened, allow_pickle=False)


@contextmanager
def open_archive(path: str | os.PathLike[str]) -> Iterator[Archive]:
    """Open a `.npz` for a `with` block.

    Raises:
        FileNotFoundError: It does not exist.
        ArchiveFault: It cannot be read, or is not a `.npz`.
    """
    with ExitStack() as stack:
        with _one_fault():
            if os.path.exists(path) and not os.path.isfile(path):
                raise ArchiveFault("it is not a file")
            file = stack.enter_context(open(path, "rb"))
            _check_start(file)
            opened = stack.enter_context(zipfile.ZipFile(file))
            archive = Archive(opened, os.fstat(file.fileno()).st_size)
        yield archive


def _check_start(file: BinaryIO) -> None:
    magic = file.read(len(npy.MAGIC_PREFIX))
    if magic == npy.MAGIC_PREFIX:
        raise ArchiveFault("it is a single array without a name, like an .npy; save it by np.savez")
    file.seek(0)


def _check_member(member: zipfile.ZipInfo, name: str, bytes_there: int) -> None:
    if member.flag_bits & 0x1:
        raise ArchiveFault(f"{name!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveFault(f"{name!r} uses a compression method that numpy does not write")
    grows = 1 if member.compress_type == zipfile.ZIP_STORED else _MOST_DEFLATED
    if member.file_size > grows * min(member.compress_size, bytes_there):
        raise ArchiveFault(
            f"{name!r} declares {member.file_size} bytes and stores {member.compress_size}"
        )


def _version(opened: Any, name: str) -> tuple[int, int]:
    version = npy.read_magic(opened)
    if version not in _HEADERS:
        raise ArchiveFault(f"{name!r} is not a plain array")
    return version


@contextmanager
def _one_fault() -> Iterator[None]:
    try:
        yield
    except (ArchiveFault, FileNotFoundError):
        raise
    except (SyntaxError, tokenize.TokenError):
        # numpy reads a header as Python.
        raise ArchiveFault("the header of an array is damaged") from None
    except _FAULTS as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ArchiveFault(text) from None
