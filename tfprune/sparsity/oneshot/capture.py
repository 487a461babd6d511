"""See what goes into a layer while its model runs, whatever the kind of model.

A layer's `call` is replaced by one that looks at the input first, and is put back in every case.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from numpy.typing import NDArray

Look = Callable[[Any, Any], None]


@contextmanager
def watched(layers: Sequence[Any], look: Look) -> Iterator[None]:
    """For the length of a `with` block, call `look(layer, input)` before each call of a layer."""
    own = [vars(layer).get("call") for layer in layers]
    try:
        for layer in layers:
            layer.call = _looking(layer, look)
        yield
    finally:
        for layer, before in zip(layers, own, strict=True):
            if before is not None:
                layer.call = before
            elif "call" in vars(layer):
                del layer.call


def _looking(layer: Any, look: Look) -> Callable[..., Any]:
    call = layer.call

    @functools.wraps(call)
    def look_then_call(*args: Any, **kwargs: Any) -> Any:
        look(layer, args[0] if args else next(iter(kwargs.values())))
        return call(*args, **kwargs)

    return look_then_call


@dataclass
class Calls:
    """How a layer is called in one pass of the model.

    Attributes:
        order: Its place among the layers, by first call.
        count: How often it is called.
        hidden: True where its input is a symbol, as inside a loop that TensorFlow compiles: there
            is no number to look at.
    """

    order: int
    count: int = 0
    hidden: bool = False


def survey_calls(model: Any, batch: Any, layers: Sequence[Any]) -> dict[int, Calls]:
    """Run a model once and return how it called its layers, by the `id` of each that it called."""
    calls: dict[int, Calls] = {}

    def look(layer: Any, tensor: Any) -> None:
        seen = calls.setdefault(id(layer), Calls(order=len(calls)))
        seen.count += 1
        seen.hidden |= not _has_values(tensor)

    with watched(layers, look):
        model(batch, training=False)
    return calls


def layer_inputs(model: Any, batch: Any, layer: Any, count: int) -> list[NDArray]:
    """Return the inputs of the `count` calls of a layer for one batch.

    The model runs no further than it has to.
    """
    inputs: list[NDArray] = []

    def look(_: Any, tensor: Any) -> None:
        inputs.append(keras.ops.convert_to_numpy(tensor))
        if len(inputs) == count:
            raise _EnoughError

    with watched([layer], look):
        try:
            model(batch, training=False)
        except _EnoughError:
            return inputs
    return inputs


class _EnoughError(BaseException):
    """Ends a pass early. No `Exception`: what a layer catches in its own call is not for this."""


def _has_values(tensor: Any) -> bool:
    return tf.is_tensor(tensor) and isinstance(tensor, tf.__internal__.EagerTensor)
