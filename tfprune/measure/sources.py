"""What can be measured, its name, and its content on disk."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfprune.errors import ArtifactError
from tfprune.runtime.artifact import Artifact
from tfprune.runtime.registry import read_any
from tfprune.storage.scratch import scratch_folder

Source = Artifact | bytes | str | os.PathLike[str]


def name_of(source: Source) -> str:
    """Return what to call a source: its file name, if it has one."""
    path = source.path if isinstance(source, Artifact) else source
    return Path(path).name if isinstance(path, str | os.PathLike) else "model"


@contextlib.contextmanager
def called(name: str) -> Iterator[None]:
    """Name the file in errors raised in a `with` block: bytes have no name of their own."""
    try:
        yield
    except ArtifactError as error:
        if name in str(error):
            raise
        raise ArtifactError(f"{name}: {error}") from None


@contextlib.contextmanager
def staged(sources: Sequence[Source]) -> Iterator[list[Path]]:
    """Give the content of sources as files for the length of a `with` block.

    Each is read once and checked, so that what is measured cannot change meanwhile.

    Raises:
        ArtifactError: One is missing, truncated, or no `.tflite` or `.onnx`.
        OptionError: The runtime of one is not installed.
    """
    with scratch_folder() as folder:
        files = []
        for index, source in enumerate(sources):
            data, runtime = read_any(source)
            file = Path(folder, f"{index}{runtime.ending}")
            file.write_bytes(data)
            files.append(file)
        yield files
