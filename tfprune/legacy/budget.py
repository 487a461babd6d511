"""How much memory a model may take while it is built from a file."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from tfprune.errors import TfpruneError

# What any model may take: the state of training and seeds are not in every file.
FREE_BYTES = 256 << 20
# Beside the weights, what an optimizer keeps of each.
COPIES = 4


class BudgetError(TfpruneError, MemoryError):
    """A model declares more than its file holds."""


@contextlib.contextmanager
def limited_variables(stored_bytes: int) -> Iterator[None]:
    """Let this thread make no more variables than a file with so many bytes of weights can fill.

    Each is measured before it is made, by both generations of Keras.

    Raises:
        BudgetError: At the first one that is too many, also where Keras has caught it.
    """
    import tensorflow as tf

    limit = FREE_BYTES + COPIES * stored_bytes
    taken, refused = 0, ""

    def create(make: Callable[..., Any], **options: Any) -> Any:
        nonlocal taken, refused
        shape, size = _measure(options)
        taken += size
        if taken > limit and not refused:
            refused = (
                f"declares weights of {taken:,} bytes or more (one of shape {shape}), and "
                f"{stored_bytes:,} bytes of weights are stored"
            )
        if refused:
            raise BudgetError(refused)
        return make(**options)

    with tf.variable_creator_scope(create):
        try:
            yield
        except Exception as error:
            if refused:
                raise BudgetError(refused) from error
            raise
    if refused:
        raise BudgetError(refused)


def _measure(options: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """Return the shape and the bytes of a variable to come."""
    import tensorflow as tf

    value, shape = options["initial_value"], options.get("shape")
    dtype = options.get("dtype")
    if shape is None or not tf.TensorShape(shape).is_fully_defined():
        if callable(value):
            # In a graph of its own, what would fill the variable is described, not computed.
            with tf.__internal__.FuncGraph("shape").as_default():
                value = tf.convert_to_tensor(value(), dtype)
        else:
            value = tf.convert_to_tensor(value, dtype)
        shape, dtype = value.shape, value.dtype
    known = tuple(int(size or 0) for size in tf.TensorShape(shape).as_list())
    size = 4 if dtype is None else tf.as_dtype(dtype).size
    return known, math.prod(known) * size
