"""Mean gradients of a loss over data, for the scores that need them."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfprune.data.batches import BATCH_SIZE, read
from tfprune.data.model_inputs import inputs_of
from tfprune.errors import OptionError, type_name
from tfprune.keras_support.losses import loss_of

GradientSource = Callable[[Sequence[Any]], list[NDArray]]


def gradient_source(model: Any, data: Any, loss: Any) -> GradientSource | None:
    """Return a function from variables to the mean gradient of the loss over all of `data`.

    Args:
        model: The model.
        data: As for `fit`, in any form of `data.batches` that can be iterated again; if None, the
            result is None.
        loss: A Keras loss, its name, or a callable `(y, prediction) -> value`; None uses the loss
            that the model was compiled with.
    """
    if data is None:
        return None
    if not isinstance(model, keras.Model):
        raise OptionError(
            "prune: data= needs a whole model, whose loss has gradients. "
            f"Received {type_name(model)}."
        )

    def gradients(variables: Sequence[Any]) -> list[NDArray]:
        function = _loss_function(model, loss)
        totals = [np.zeros(v.shape, np.float64) for v in variables]
        tensors = [v.value for v in variables]
        samples = 0
        for batch in read(data, inputs_of(model), "prune data", size=BATCH_SIZE):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                for tensor in tensors:
                    tape.watch(tensor)
                outputs = model(batch.inputs, training=False)
                value = function(batch.labels, outputs, batch.weights)
            size = batch.size
            for total, gradient in zip(totals, tape.gradient(value, tensors), strict=True):
                if gradient is not None:
                    total += size * np.asarray(tf.convert_to_tensor(gradient), np.float64)
            samples += size
        return [(total / samples).astype(np.float32) for total in totals]

    return gradients


def _loss_function(model: Any, loss: Any) -> Callable[..., Any]:
    if loss is None and not getattr(model, "compiled", False):
        raise OptionError("prune: pass loss=…, or compile the model first")
    if not (loss is None or callable(loss) or isinstance(loss, str | dict | list)):
        raise OptionError(
            f"prune: loss: expected a loss, its name or a callable. Received {loss!r}."
        )
    return loss_of(model, loss)
