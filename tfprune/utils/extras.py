"""Optional packages: the extras of `setup.cfg`."""

import importlib.util

from tfprune.errors import OptionError


def installed(*packages: str) -> bool:
    """Return whether all these packages can be imported, without importing them."""
    return not _missing(packages)


def require(what: str, extra: str, *packages: str) -> None:
    """Raise unless the packages are installed that a call needs, by this extra.

    Raises:
        OptionError: A package is missing.
    """
    if missing := _missing(packages):
        raise OptionError(f"{what} needs {', '.join(missing)}: pip install 'tfprune[{extra}]'")


def _missing(packages: tuple[str, ...]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]
