"""Optional packages: the extras of `setup.cfg`."""

import importlib.util

from tfprune.errors import OptionError


def installed(*packages: str) -> bool:
    """Return whether all these packages can be imported, without importing them."""
    return not _missing(packages)


def require(what: str, extra: str, *packages: str) -> None:
    """Raise if packages are not installed.

    Args:
        what: The call that needs them, for the error.
        extra: The extra of tfprune that installs them.
        packages: Their module names.

    Raises:
        OptionError: A package is missing.
    """
    if missing := _missing(packages):
        raise OptionError(f"{what} needs {', '.join(missing)}: pip install 'tfprune[{extra}]'")


def _missing(packages: tuple[str, ...]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]
