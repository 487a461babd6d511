"""Recording the inputs of a layer while its model runs, for any kind of model.

A layer's `call` is replaced by one that records the input first, and is always restored.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

Record = Callable[[Any, Any], None]


@contextmanager
def watched(layers: Sequence[Any], record: Record) -> Iterator[None]:
    """Call `record(layer, input)` before each call of a layer, inside a `with` block."""
    own = [vars(layer).get("call") for layer in layers]
    try:
        for layer in layers:
            layer.call = _recording(layer, record)
        yield
    finally:
        for layer, before in zip(layers, own, strict=True):
            if before is not None:
                layer.call = before
            elif "call" in vars(layer):
                del layer.call


def _recording(layer: Any, record: Record) -> Callable[..., Any]:
    call = layer.call

    @functools.wraps(call)
    def record_then_call(*args: Any, **kwargs: Any) -> Any:
        record(layer, args[0] if args else next(iter(kwargs.values())))
        return call(*args, **kwargs)

    return record_then_call


@dataclass
class Calls:
    """How a layer is called in one pass of the model.

    Attributes:
        order: Its place among the layers, by first call.
        count: How often it is called.
        hidden: True if its input is symbolic, as inside a loop that TensorFlow compiles, and has
            no values.
    """

    order: int
    count: int = 0
    hidden: bool = False


def survey_calls(model: Any, batch: Any, layers: Sequence[Any]) -> dict[int, Calls]:
    """Run a model once and return how it called its layers, by the `id` of the layer."""
    calls: dict[int, Calls] = {}

    def record(layer: Any, tensor: Any) -> None:
        seen = calls.setdefault(id(layer), Calls(order=len(calls)))
        seen.count += 1
        seen.hidden |= not has_values(tensor)

    with watched(layers, record):
        model(batch, training=False)
    return calls


def layer_inputs(model: Any, batch: Any, layer: Any, count: int) -> list[NDArray]:
    """Return the inputs of the `count` calls of a layer for one batch.

    The model run stops after the last of these calls.
    """
    inputs: list[NDArray] = []

    def record(_: Any, tensor: Any) -> None:
        inputs.append(keras.ops.convert_to_numpy(tensor))
        if len(inputs) == count:
            raise _EnoughError

    with watched([layer], record):
        try:
            model(batch, training=False)
        except _EnoughError:
            return inputs
    return inputs


class _EnoughError(BaseException):
    """Ends a pass early. Not an `Exception`, so that a layer's own call does not catch it."""


def has_values(tensor: Any) -> bool:
    """Return whether a tensor has values: none has inside a loop that TensorFlow compiles."""
    return tf.is_tensor(tensor) and isinstance(tensor, tf.__internal__.EagerTensor)
