"""Versions of installed packages, found without importing them."""

import importlib.metadata

# Names of the nightly builds of packages.
_NIGHTLY = {"keras": "keras-nightly", "tensorflow": "tf-nightly"}


def version_of(package: str) -> str:
    """Return the version of an installed package, or of its nightly build.

    Raises:
        importlib.metadata.PackageNotFoundError: Neither is installed.
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        if package not in _NIGHTLY:
            raise
        return importlib.metadata.version(_NIGHTLY[package])
