"""The files that can be measured, their names, and their content on disk."""

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
    """Return the name of a source in messages: its file name, if it has one."""
    path = source.path if isinstance(source, Artifact) else source
    return Path(path).name if isinstance(path, str | os.PathLike) else "model"


@contextlib.contextmanager
def named_in_errors(name: str) -> Iterator[None]:
    """Add the file's name to errors of a `with` block: bytes have no name."""
    try:
        yield
    except ArtifactError as error:
        if name in str(error):
            raise
        raise ArtifactError(f"{name}: {error}") from None


@contextlib.contextmanager
def staged(sources: Sequence[Source]) -> Iterator[list[Path]]:
    """Write the content of sources to temporary files for a `with` block.

    Each is read once and checked, so that it cannot change during the measurement.

    Raises:
        ArtifactError: One is missing, truncated, or neither a `.tflite` nor an `.onnx`.
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
