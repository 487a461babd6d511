"""Named arrays in a file, for a parent and its child process to hand to each other."""

import json
import os
from collections.abc import Mapping

import numpy as np


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays under any names; as keywords of `numpy.savez`, "file" could be none."""
    names = np.frombuffer(json.dumps(list(arrays)).encode(), np.uint8)
    np.savez(path, names, *arrays.values())


def load_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return what `save_arrays` wrote."""
    with np.load(path) as archive:
        names = json.loads(archive["arr_0"].tobytes())
        return {name: archive[f"arr_{i + 1}"] for i, name in enumerate(names)}
