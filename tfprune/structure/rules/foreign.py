"""Functions of the user's own: whether each number goes its own way is read from what they do."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree

from tfprune.structure.ids.rule_registry import find
from tfprune.utils.keras_internals import maker_of, node_of


def acts_alone(function: Callable[[Any], Any]) -> bool:
    """Tell whether a function gives each number from that number alone.

    It is run on a symbolic tensor: all that it does must be elementwise operations of Keras, with
    no constants but numbers.

    Example:
        >>> import keras
        >>> acts_alone(lambda x: x * keras.ops.sigmoid(1.702 * x))
        True
        >>> acts_alone(lambda x: x - keras.ops.mean(x, axis=-1, keepdims=True))
        False
    """
    from tfprune.structure.rules.elementwise import binary, same

    start = keras.KerasTensor((3, 5))
    try:
        end = function(start)
    except Exception:  # noqa: BLE001 — any code of the user's runs in here
        return False
    if not isinstance(end, keras.KerasTensor) or tuple(end.shape) != (3, 5):
        return False
    stack, seen = [end], set()
    while stack:
        here = stack.pop()
        if here is start or id(here) in seen:
            continue
        seen.add(id(here))
        operation = maker_of(here)
        if find(operation) not in (binary, same) or isinstance(operation, keras.Layer):
            return False
        given = node_of(here).arguments
        for leaf in tree.flatten((given.args, given.kwargs)):
            if isinstance(leaf, keras.KerasTensor):
                stack.append(leaf)
            elif isinstance(leaf, keras.Variable) or np.ndim(leaf) > 0:
                return False
    return True
