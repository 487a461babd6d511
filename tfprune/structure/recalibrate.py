"""BatchNormalization statistics estimated anew, after channels went."""

from typing import Any

import keras

from tfprune.errors import DataError, ModelError, type_name
from tfprune.structure.batches import as_batches, check_batch


def recalibrate(model: Any, data: Any) -> Any:
    """The model with its BatchNormalization statistics taken from data.

    The moving mean and variance become the plain average over all batches. Nothing else of the
    model changes; its labels, if there are any, are not read.

    Args:
        model: A Keras model. It is changed in place.
        data: Inputs, (inputs, labels), or batches of them.

    Returns:
        The same model.

    Raises:
        ModelError: The model has no BatchNormalization whose statistics may change.
        DataError: The data is empty, or gives statistics that are not finite.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(f"recalibrate: expected a keras.Model. Received {type_name(model)}")
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    frozen = [layer.name for layer in norms if not layer.trainable]
    if not norms or len(frozen) == len(norms):
        what = f"all are frozen ({', '.join(frozen)})" if frozen else "there is none"
        raise ModelError(f"model {model.name!r} has no BatchNormalization to recalibrate: {what}")
    takes = getattr(model, "inputs", None) or ()
    batches = as_batches(data, "recalibrate data", len(takes))
    for inputs, _ in batches:
        check_batch([tensor.shape for tensor in takes], inputs, "recalibrate data")
    before = [(layer.momentum, layer.moving_mean.numpy(), layer.moving_variance.numpy())
              for layer in norms]  # fmt: skip
    try:
        for number, (inputs, _) in enumerate(batches):
            for layer in norms:
                layer.momentum = number / (number + 1)
            model(inputs, training=True)
    finally:
        for layer, (momentum, _, _) in zip(norms, before, strict=True):
            layer.momentum = momentum
    bad = [
        layer.name
        for layer in norms
        if not all(
            bool(keras.ops.all(keras.ops.isfinite(value)))
            for value in (layer.moving_mean, layer.moving_variance)
        )
    ]
    if bad:
        for layer, (_, mean, variance) in zip(norms, before, strict=True):
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
        raise DataError(f"recalibrate: the data gives {bad[0]} statistics that are not finite")
    return model
