"""Contents of an HDF5 file, read by a child process: a damaged file can crash it."""

import os
from typing import Any

# Deflate cannot shrink more than this; a size beyond it is a damaged field.
_MOST_COMPRESSION = 1032

# Limit on the growth of a weights file when it is unpacked, beyond FREE_BYTES.
MOST_GROWTH = 100
FREE_BYTES = 64 << 20


def examine_h5(path: str) -> dict[str, Any]:
    """Return the metadata of an HDF5 file: config, stored bytes, and style of names.

    Raises:
        ValueError: It refers to other files, or its arrays exceed its size.
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
                    raise ValueError(f"{name} is in another file")
                sizes.append(item.nbytes)

        def check_links(name: str, group: Any) -> None:
            for key in group:
                if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                    raise ValueError(f"{name}/{key} is a link to another file")

        check_links("", file)
        file.visititems(visit)
        training = file.attrs.get("training_config")
    about: dict[str, Any] = dict(read_h5(path))
    about["training_config"] = as_text(training)
    limit = max(FREE_BYTES, MOST_GROWTH * os.path.getsize(path))
    if sum(sizes) > limit:
        raise ValueError(f"its arrays declare {sum(sizes)} bytes")
    return {**about, "bytes": sum(sizes), "backslashes": any("\\" in name for name in names)}


def use_slashes(path: str) -> None:
    """Rename the groups of a weights file written on Windows to names with slashes."""
    import h5py

    with h5py.File(path, "r+") as file:
        for name in list(file):
            if "\\" in name:
                file.move(name, name.replace("\\", "/"))


def read_h5(path: str) -> dict[str, str | None]:
    """Read an HDF5 file completely once, and return its metadata.

    Run it in a child process: a damaged file can crash it.

    Raises:
        ValueError: An array exceeds the size of the file.
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
                    raise ValueError(f"{name} declares {item.nbytes} bytes")
                _ = item[()]

        file.visititems(visit)
        if found["model_config"] is not None and "model_weights" not in file:
            raise ValueError("no model_weights inside")
    return {key: as_text(value) for key, value in found.items()}


def as_text(value: Any) -> str | None:
    """Return an attribute of an HDF5 file as text; None if it is not text."""
    if isinstance(value, str):  # h5py decodes invalid UTF-8 to surrogates
        value = value.encode("utf-8", "surrogateescape")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None
