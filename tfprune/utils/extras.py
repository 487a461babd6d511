"""Packages that only some calls need: the extras of `setup.cfg`."""

import importlib.util

from tfprune.errors import OptionError


def installed(*packages: str) -> bool:
    """Return whether all these packages can be imported; imports none of them."""
    return not _missing(packages)


def require(what: str, extra: str, *packages: str) -> None:
    """Refuse a call that needs packages which are not installed.

    Args:
        what: What needs them, as the error calls it.
        extra: The extra of tfprune that installs them.
        packages: Their names, as they are imported.

    Raises:
        OptionError: One of them is missing.
    """
    if missing := _missing(packages):
        raise OptionError(f"{what} needs {', '.join(missing)}: pip install 'tfprune[{extra}]'")


def _missing(packages: tuple[str, ...]) -> list[str]:
    return [name for name in packages if importlib.util.find_spec(name) is None]
