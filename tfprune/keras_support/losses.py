"""The loss for gradients, as a function of labels and outputs."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from tfprune.errors import DataError, OptionError
from tfprune.keras_support.internals import CompileLoss
from tfprune.keras_support.models import compile_options

Loss = str | Callable[..., Any] | list[Any] | dict[str, Any]
"""A loss as in `compile`: a name, a function, a `keras.Loss`, or a list or dict of these."""


def loss_of(model: Any, loss: Any) -> Callable[..., Any]:
    """Return the loss, averaged over the batch and the outputs as in `compile`.

    It is a function of the labels, the outputs, and optionally the weights of the samples.

    Args:
        model: The model; its compiled loss and loss weights are used if `loss` is None.
        loss: As in `compile`: a name, a function, a `Loss`, or a list or dict of these.

    Raises:
        DataError: There is no loss; or, when the loss is called, it does not fit the labels.
        OptionError: `loss` is not a loss.
    """
    options = compile_options(model)
    weights = None
    if loss is None:
        loss, weights = options.get("loss"), options.get("loss_weights")
    if loss is None:
        raise DataError("this importance needs loss=, or a model that is compiled with one")
    for one in tree.flatten(loss):
        _check(one)
    names = getattr(model, "output_names", None)

    def value(labels: Any, outputs: Any, weights_of_samples: Any = None) -> Any:
        if labels is None:
            raise DataError("this importance needs labels: data=(inputs, labels)")
        _check_class_numbers(loss, labels)
        try:
            return compiled(labels, outputs, weights_of_samples)
        except _UNFIT as error:
            text = str(error).strip().splitlines()[0]
            shapes = [tuple(out.shape) for out in tree.flatten(outputs)]
            raise DataError(
                f"data=: the loss cannot be computed with these labels for outputs of shapes "
                f"{shapes}: {text}"
            ) from error

    compiled = CompileLoss(loss, weights, output_names=names)
    return value


_UNFIT = (ValueError, TypeError, KeyError, tf.errors.InvalidArgumentError)


def _check(loss: Any) -> None:
    if loss is None or callable(loss):
        return
    try:
        if isinstance(loss, str) and callable(keras.losses.get(loss)):
            return
    except ValueError:
        pass
    raise OptionError(
        f"shrink loss: expected the name of a Keras loss, or a function. Received {loss!r}"
    )


def _check_class_numbers(loss: Any, labels: Any) -> None:
    """Raise for a fraction where a loss takes class numbers: TensorFlow would cut it off."""
    name = getattr(loss, "name", None) or getattr(loss, "__name__", None) or str(loss)
    known = tf.is_tensor(labels) or isinstance(labels, np.ndarray)
    if not str(name).startswith("sparse_") or not known or not tf.executing_eagerly():
        return
    numbers = np.asarray(labels)
    wrong = numbers[numbers != numbers.round()]
    if wrong.size:
        raise DataError(f"data=: label {wrong[0]:g}; {name} takes class numbers: 0, 1, 2 …")
