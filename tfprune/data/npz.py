"""The arrays of an `.npz`, read without running code from it."""

from collections.abc import Iterator, Mapping

from numpy.typing import NDArray

from tfprune.errors import DataError
from tfprune.storage.archives import ArchiveFault, open_archive


def read_npz(path: str, name: str) -> dict[str, NDArray]:
    """Return the arrays of an `.npz`.

    Raises:
        DataError: It is missing or damaged; the message begins with `name`.
    """
    try:
        with open_archive(path) as archive:
            return {key: archive.read(key) for key in archive.names}
    except FileNotFoundError:
        raise DataError(f"{name}: no such file.") from None
    except ArchiveFault as fault:
        raise DataError(f"{name}: not a valid .npz of plain arrays: {fault}") from None


def pairs_in(arrays: Mapping[str, NDArray], part: str) -> Iterator[tuple[NDArray, NDArray | None]]:
    """Yield the inputs and labels of an `.npz`: x and y, then those of a part, x_test and y_test.

    The labels are None where there are none.
    """
    for end in ("", f"_{part}"):
        if f"x{end}" in arrays:
            yield arrays[f"x{end}"], arrays.get(f"y{end}")
