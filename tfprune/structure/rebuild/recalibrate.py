"""Re-estimating BatchNormalization statistics after channels were removed."""

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
from tfprune.keras_support.models import refuse_quantized

OPTION = "recalibrate data"

M = TypeVar("M", bound=keras.Model)


def recalibrate(model: M, data: Any) -> M:
    """Recompute the BatchNormalization statistics of a model from data.

    The moving mean and variance become the average over all batches, weighted by their number of
    samples; for a layer that is called several times, over all of its calls. Nothing else in the
    model changes; labels, if there are any, are not read.

    Args:
        model: A Keras model. It is changed in place.
        data: Inputs, (inputs, labels), or a dataset or another iterable of these; 32 samples
            make a batch of arrays.

    Returns:
        The same model.

    Raises:
        ModelError: The model has no trainable BatchNormalization.
        DataError: The data is empty, or the statistics are not finite.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(f"recalibrate: expected a keras.Model. Received {type_name(model)}")
    refuse_quantized(model)
    learning = learning_norms(model)
    if not learning:
        frozen = [layer.name for layer in _norms(model)]
        what = f"all are frozen ({', '.join(frozen)})" if frozen else "there is none"
        raise ModelError(f"model {model.name!r} has no BatchNormalization to recalibrate: {what}")
    # A snapshot: TensorFlow writes to another buffer while this one is held.
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
            raise DataError(f"recalibrate: the statistics of {bad[0]} on the data are not finite")
        new.update(
            id(value) for one in learning for value in (one.moving_mean, one.moving_variance)
        )
    finally:
        # Dropout seeds, spectral norms and users' layers change with every training call.
        for variable, value in before:
            if id(variable) not in new:
                variable.assign(value)
    return model


def learning_norms(model: Any) -> list[Any]:
    """Return the BatchNormalizations of a model whose statistics training changes."""
    return [layer for layer in _norms(model) if layer.trainable]


def _norms(model: Any) -> list[Any]:
    return [
        layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)
    ]


@contextlib.contextmanager
def _averaging(layer: Any) -> Iterator[None]:
    """Make a normalization average over all its calls while entered, weighted by samples."""
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
