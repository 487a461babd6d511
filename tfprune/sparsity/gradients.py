"""Mean gradients of a loss over data, for the scores that ask for them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfprune.errors import DataError, OptionError, type_name

BATCH_SIZE = 64

GradientSource = Callable[[Sequence[Any]], list[NDArray]]


def gradient_source(model: Any, data: Any, loss: Any) -> GradientSource | None:
    """Return a function from variables to the mean gradient of the loss over all of `data`.

    Args:
        model: The model that the loss is of.
        data: `(x, y)` arrays, or an iterable of batches that can be gone through again; None
            returns None.
        loss: A Keras loss, its name, or a callable `(y, prediction) -> value`; None takes the
            loss that the model was compiled with.
    """
    if data is None:
        return None
    if not isinstance(model, keras.Model):
        raise OptionError(
            "prune: data= is for a whole model, whose loss has gradients. "
            f"Received {type_name(model)}."
        )

    def gradients(variables: Sequence[Any]) -> list[NDArray]:
        function = _loss_function(model, loss)
        totals = [np.zeros(v.shape, np.float64) for v in variables]
        tensors = [v.value for v in variables]
        samples = 0
        for x, y in _batches(data):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for tensor in tensors:
                    tape.watch(tensor)
                value = tf.reduce_mean(function(y, model(x, training=False)))
            size = len(y)
            for total, gradient in zip(totals, tape.gradient(value, tensors), strict=True):
                if gradient is not None:
                    total += size * np.asarray(tf.convert_to_tensor(gradient), np.float64)
            samples += size
        if not samples:
            raise DataError("prune: data holds no sample to take gradients from")
        return [(total / samples).astype(np.float32) for total in totals]

    return gradients


def _loss_function(model: Any, loss: Any) -> Callable[[Any, Any], Any]:
    chosen = loss
    if chosen is None:
        if not getattr(model, "compiled", False):
            raise OptionError("prune: give loss=…, or compile the model first")
        chosen = model.loss
    if isinstance(chosen, str):
        chosen = keras.losses.get(chosen)
    if not callable(chosen):
        raise OptionError(
            f"prune: loss: expected a loss, its name or a callable. Received {loss!r}."
        )
    return chosen


def _batches(data: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(data, (tuple, list)) and len(data) == 2 and hasattr(data[0], "shape"):
        x, y = data
        if len(x) != len(y):
            raise DataError(f"prune: data: {len(x)} samples but {len(y)} targets")
        return ((x[at : at + BATCH_SIZE], y[at : at + BATCH_SIZE])
                for at in range(0, len(x), BATCH_SIZE))  # fmt: skip
    return ((batch[0], batch[1]) for batch in data)
