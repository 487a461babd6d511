"""Data that a command takes: a file of arrays, or a function of the user's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfprune.errors import DataError

FORMS = (
    ".npz with x and y, or with an array for each input by its name; .npy of inputs; or "
    "package.module:function"
)
TRAIN, TEST = "train", "test"
"""The part of an `.npz` that has both, as recipes take it: x_train and y_train, or x_test …"""


def read_data(given: str, option: str, part: str = TRAIN) -> Any:
    """Return the data that an option names, in a form that every call of tfprune takes.

    Raises:
        DataError: The file is missing, damaged, or holds something else.
        OptionError: There is no such function.
    """
    import numpy as np

    from tfprune.data.npz import read_npz
    from tfprune.recipe.sources import is_function
    from tfprune.recipe.user_code import import_function

    if is_function(given):
        return import_function(given)()
    path = Path(given)
    if path.suffix not in (".npy", ".npz"):
        raise DataError(f"{option} {given}: expected {FORMS}")
    if path.suffix == ".npz":
        return _pair(read_npz(given, f"{option} {given}"), part, f"{option} {given}")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{option} {given}: no such file.") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{option} {given}: not a valid .npy: {error}") from None


def _pair(arrays: Mapping[str, Any], part: str, where: str) -> Any:
    """Return inputs, or inputs and labels, of the arrays of an `.npz`."""
    from tfprune.data.npz import pairs_in

    for x, y in pairs_in(arrays, part):
        return x if y is None else (x, y)
    inputs = {name: array for name, array in arrays.items() if name != "y"}
    if not inputs:
        raise DataError(f"{where}: expected {FORMS}. Received {', '.join(arrays) or 'no array'}")
    return (inputs, arrays["y"]) if "y" in arrays else inputs
