"""BatchNormalization statistics estimated anew, after channels went."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, TypeVar

import keras
import tensorflow as tf

from tfprune.data.batches import read
from tfprune.data.model_inputs import inputs_of
from tfprune.errors import DataError, ModelError, type_name
from tfprune.keras_support.internals import all_layers
from tfprune.keras_support.quantized import refuse_quantized

OPTION = "recalibrate data"

M = TypeVar("M", bound=keras.Model)


def recalibrate(model: M, data: Any) -> M:
    """The model with its BatchNormalization statistics taken from data.

    The moving mean and variance become the average over all batches, each weighing as much as it
    has samples; where a layer is called several times, over all of its calls. Nothing else of the
    model changes; labels, if there are any, are not read.

    Args:
        model: A Keras model. It is changed in place.
        data: Inputs, (inputs, labels), or a dataset or another iterable of these; 32 samples
            make a batch of arrays.

    Returns:
        The same model.

    Raises:
        ModelError: The model has no BatchNormalization whose statistics may change.
        DataError: The data is empty, or gives statistics that are not finite.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(f"recalibrate: expected a keras.Model. Received {type_name(model)}")
    refuse_quantized(model)
    learning = learning_norms(model)
    if not learning:
        frozen = [layer.name for layer in _norms(model)]
        what = f"all are frozen ({', '.join(frozen)})" if frozen else "there is none"
        raise ModelError(f"model {model.name!r} has no BatchNormalization to recalibrate: {what}")
    # What is read here is a snapshot: TensorFlow writes to another buffer while it is held.
    before = [(variable, tf.convert_to_tensor(variable.value)) for variable in model.variables]
    new: set[int] = set()
    try:
        with contextlib.ExitStack() as stack:
            for layer in learning:
                stack.enter_context(_averaging(layer))
            for batch in read(data, inputs_of(model), OPTION, labels="ignored"):
                model(batch.inputs, training=True)
        bad = [layer.name for layer in learning if not _is_finite(layer)]
        if bad:
            raise DataError(f"recalibrate: the data gives {bad[0]} statistics that are not finite")
        new.update(
            id(value) for one in learning for value in (one.moving_mean, one.moving_variance)
        )
    finally:
        # Dropout, spectral norms and layers of one's own change with every training call.
        for variable, value in before:
            if id(variable) not in new:
                variable.assign(value)
    return model


def learning_norms(model: Any) -> list[Any]:
    """The BatchNormalizations of a model whose statistics change while it trains."""
    return [layer for layer in _norms(model) if layer.trainable]


def _norms(model: Any) -> list[Any]:
    return [
        layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)
    ]


@contextlib.contextmanager
def _averaging(layer: Any) -> Iterator[None]:
    """Let a normalization average over all its calls, each weighing as many samples as it has."""
    momentum, own, call = layer.momentum, vars(layer).get("call"), layer.call
    seen = tf.Variable(0.0, dtype=tf.float64, trainable=False)

    @functools.wraps(call)
    def count_then_call(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        before = seen.read_value()
        now = before + tf.cast(tf.shape(inputs)[0], tf.float64)
        seen.assign(now)
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        layer.momentum = tf.cast(before / now, dtype)
        return call(inputs, *args, **kwargs)

    layer.call = count_then_call
    try:
        yield
    finally:
        layer.momentum = momentum
        if own is not None:
            layer.call = own
        else:
            del layer.call


def _is_finite(layer: Any) -> bool:
    return all(
        bool(keras.ops.all(keras.ops.isfinite(value)))
        for value in (layer.moving_mean, layer.moving_variance)
    )
