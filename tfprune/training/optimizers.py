"""Optimizers and learning rates of Keras, from what a recipe says."""

import inspect
from collections.abc import Mapping
from typing import Any

import keras

from tfprune.errors import OptionError, nearest


def make_optimizer(choice: Any, rate: Any, where: str) -> keras.optimizers.Optimizer:
    """Return a new optimizer with a learning rate; errors name the table `where`.

    The choice is a name, a table of a name and arguments, or an optimizer, whose options are kept.

    Raises:
        OptionError: Keras has no such optimizer, or it does not take the arguments.

    Example:
        >>> make_optimizer({"name": "sgd", "momentum": 0.5}, 0.1, "[train]").momentum
        0.5
    """
    if isinstance(choice, keras.optimizers.Optimizer):
        return type(choice).from_config({**choice.get_config(), "learning_rate": rate})
    return _made(choice, keras.optimizers, f"{where} optimizer", {"learning_rate": rate})


def make_rate(choice: float | Mapping[str, Any], steps: int, where: str) -> Any:
    """Return a learning rate for a number of steps.

    A number falls to 0 along a cosine. A schedule that needs a number of steps, and is given none,
    gets all.

    Raises:
        OptionError: Keras has no such schedule, or it does not take the arguments.

    Example:
        >>> rate = {"name": "polynomial_decay", "initial_learning_rate": 0.1}
        >>> make_rate(rate, 50, "[train]").decay_steps
        50
        >>> make_rate({"name": "constant", "value": 0.1}, 50, "[train]")
        0.1
    """
    if not isinstance(choice, Mapping):
        return keras.optimizers.schedules.CosineDecay(choice, steps)
    if choice["name"] == "constant":
        if set(choice) != {"name", "value"}:
            raise OptionError(f"{where} learning_rate: constant takes value, and nothing else.")
        return choice["value"]
    schedules = keras.optimizers.schedules
    return _made(choice, schedules, f"{where} learning_rate", {}, {"decay_steps": steps})


def _made(
    choice: str | Mapping[str, Any],
    module: Any,
    where: str,
    fixed: Mapping[str, Any],
    usual: Mapping[str, Any] | None = None,
) -> Any:
    """Return an object of a class of Keras; `usual` are arguments where it takes them."""
    table = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = table.pop("name")
    known = {key.lower(): value for key, value in vars(module).items()}
    kind = known.get(name.replace("_", ""))
    if kind is None:
        raise OptionError(f"{where}: this release of Keras, {keras.__version__}, has no {name!r}.")
    takes = [key for key in inspect.signature(kind).parameters if key not in ("kwargs", "name")]
    for key in table:
        if key not in takes:
            raise OptionError(f"{where}: {name} has no argument {key!r}. {nearest(key, takes)}")
    options = {key: value for key, value in (usual or {}).items() if key in takes}
    try:
        return kind(**{**options, **table, **fixed})
    except (TypeError, ValueError) as error:
        raise OptionError(f"{where}: {name}: {' '.join(str(error).split())}") from None
