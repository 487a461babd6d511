"""User functions, which a recipe names as `package.module:function`."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from tfprune.errors import OptionError, nearest


def import_function(source: str) -> Callable[..., Any]:
    """Import a function `package.module:function`; the current folder is searched too.

    Raises:
        OptionError: The module does not exist, or has no such function. An error inside the
            module's own code is not changed.
    """
    module_name, _, name = source.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise OptionError(
            f"{source}: no module named {error.name!r} here or among the installed packages. "
            f"Searched from {os.getcwd()}."
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        public = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise OptionError(f"{source}: {module_name} has no function {name!r}. "
                          f"{nearest(name, public)}")  # fmt: skip
    return function
