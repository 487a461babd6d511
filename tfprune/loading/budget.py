"""Limits on the memory that a model takes while it is built from a file."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

from tfprune.errors import TfpruneError

# Allowed for any model: training state and seeds are not in every file.
FREE_BYTES = 256 << 20
# Copies of each weight, including those of the optimizer.
COPIES = 4

# Limits on numbers over which Keras loops in Python.
MOST_STEPS = 4096
MOST_THRESHOLDS = 1 << 16
_COUNTED = {"size": MOST_STEPS, "num_thresholds": MOST_THRESHOLDS}
_LENGTHS = {
    "batch_input_shape", "batch_shape", "input_shape", "n", "padding", "shape", "target_shape",
}  # fmt: skip
# tf_keras cuts their input into slices and repeats each in a list.
_LISTED = ("UpSampling1D", "UpSampling3D")
MOST_SLICES = 1 << 20


class BudgetError(TfpruneError, MemoryError):
    """A model declares more memory than its file justifies."""


@contextlib.contextmanager
def limited_variables(stored_bytes: int) -> Iterator[None]:
    """Limit the memory of variables created in this thread by the stored bytes of weights.

    Each variable is checked before either generation of Keras creates it.

    Raises:
        BudgetError: At the first variable over the limit, even if Keras caught the error.
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
                f"declares weights of {taken:,} bytes or more (one of shape {shape}), but "
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


def check_config_counts(config: Any) -> None:
    """Raise if a config makes Keras loop over more than `MOST_STEPS` or `MOST_THRESHOLDS`.

    These are not variables: the copies of an upsampling, the thresholds of a metric, the steps of
    a recurrent layer that is unrolled.

    Raises:
        BudgetError: The message names the option.
    """
    options = list(_options(config))
    limits = dict(_COUNTED)
    if any(key == "unroll" and value is True for key, value in options):
        limits |= dict.fromkeys(_LENGTHS, MOST_STEPS)
    for key, value in options:
        largest = max(_numbers(value), default=0) if key in limits else 0
        if largest > limits.get(key, 0) > 0:
            raise BudgetError(f"asks for {key} = {largest:,}; at most {limits[key]:,} is allowed")
    factors = [max(_numbers(size), default=1) for size in _sizes(config)]
    if factors:
        longest = max((n for k, v in options if k in _LENGTHS for n in _numbers(v)), default=1)
        slices = max(longest, 1) * math.prod(factors)
        if slices > MOST_SLICES:
            raise BudgetError(
                f"upsamples to {slices:,} slices; at most {MOST_SLICES:,} are allowed"
            )


def _options(config: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(config, list):
        for item in config:
            yield from _options(item)
    elif isinstance(config, dict):
        yield from config.items()
        for value in config.values():
            yield from _options(value)


def _sizes(config: Any) -> Iterator[Any]:
    """Yield the sizes of all layers that list their slices."""
    if isinstance(config, list):
        for item in config:
            yield from _sizes(item)
    elif isinstance(config, dict):
        inner = config.get("config")
        if config.get("class_name") in _LISTED and isinstance(inner, dict):
            yield inner.get("size", 2)
        for value in config.values():
            yield from _sizes(value)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)


def _measure(options: dict[str, Any]) -> tuple[tuple[int, ...], int]:
    """Return the shape and the bytes of a variable before it is created."""
    import tensorflow as tf

    value, shape = options["initial_value"], options.get("shape")
    dtype = options.get("dtype")
    if shape is None or not tf.TensorShape(shape).is_fully_defined():
        if callable(value):
            # In a separate graph the initial value is traced, not computed.
            with tf.__internal__.FuncGraph("shape").as_default():
                value = tf.convert_to_tensor(value(), dtype)
        else:
            value = tf.convert_to_tensor(value, dtype)
        shape, dtype = value.shape, value.dtype
    known = tuple(int(size or 0) for size in tf.TensorShape(shape).as_list())
    size = 4 if dtype is None else tf.as_dtype(dtype).size
    return known, math.prod(known) * size
