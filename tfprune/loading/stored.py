"""What an HDF5 file holds, read by a child process: a damaged or hostile file can end it."""

import os
from typing import Any

# Deflate cannot shrink more than this; a size beyond it is a damaged field.
_MOST_COMPRESSION = 1032

# A file of weights may grow this much when it is unpacked, beyond what every file may.
MOST_GROWTH = 100
FREE_BYTES = 64 << 20


def examine_h5(path: str) -> dict[str, Any]:
    """Return what an HDF5 file says of its model, how much it stores, and how it was written.

    Raises:
        ValueError: It refers to other files, or its arrays are larger than it can hold.
    """
    import h5py  # type: ignore[import-untyped]

    with h5py.File(path, "r") as file:
        names: list[str] = []
        sizes = [0]

        def visit(name: str, item: Any) -> None:
            names.append(name)
            if isinstance(item, h5py.Group):
                check_links(name, item)
            elif isinstance(item, h5py.Dataset):
                if item.external or item.is_virtual:
                    raise ValueError(f"{name} lies in another file")
                sizes.append(item.nbytes)

        def check_links(name: str, group: Any) -> None:
            for key in group:
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    raise ValueError(f"{name}/{key} is a link to another place")

        check_links("", file)
        file.visititems(visit)
        training = file.attrs.get("training_config")
    about: dict[str, Any] = dict(read_h5(path))
    about["training_config"] = as_text(training)
    limit = max(FREE_BYTES, MOST_GROWTH * os.path.getsize(path))
    if sum(sizes) > limit:
        raise ValueError(f"its arrays claim {sum(sizes)} bytes")
    return {**about, "bytes": sum(sizes), "backslashes": any("\\" in name for name in names)}


def use_slashes(path: str) -> None:
    """Give the groups of a weights file that Windows wrote the names they have elsewhere."""
    import h5py

    with h5py.File(path, "r+") as file:
        for name in list(file):
            if "\\" in name:
                file.move(name, name.replace("\\", "/"))


def read_h5(path: str) -> dict[str, str | None]:
    """Return what an HDF5 file says of its model, after reading all of it once.

    Made to be run in a process of its own: a damaged file can end it.

    Raises:
        ValueError: An array is larger than the file can hold.
    """
    import h5py

    limit = os.path.getsize(path) * _MOST_COMPRESSION
    with h5py.File(path, "r") as file:
        found = {key: file.attrs.get(key) for key in ("model_config", "keras_version")}

        def visit(name: str, item: Any) -> None:
            for key in item.attrs:
                _ = item.attrs[key]
            if isinstance(item, h5py.Dataset):
                if item.nbytes > limit:
                    raise ValueError(f"{name} claims {item.nbytes} bytes")
                _ = item[()]

        file.visititems(visit)
        if found["model_config"] is not None and "model_weights" not in file:
            raise ValueError("no model_weights inside")
    return {key: as_text(value) for key, value in found.items()}


def as_text(value: Any) -> str | None:
    """Return an attribute of an HDF5 file as text; None where it is none."""
    if isinstance(value, str):  # what is no UTF-8 comes from h5py as surrogates
        value = value.encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None
