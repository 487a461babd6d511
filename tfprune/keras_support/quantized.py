"""Detecting models quantized by Keras's own `quantize`."""

from typing import Any

from tfprune.errors import ModelError, type_name
from tfprune.keras_support.internals import all_layers


def refuse_quantized(*roots: Any) -> None:
    """Raise for models and layers whose weights Keras has quantized.

    Args:
        *roots: Models and layers of either generation; `tf_keras` quantizes none.

    Raises:
        ModelError: Keras's own `quantize` has been called on one, or on a layer in it.
    """
    for root in roots:
        for layer in all_layers(root):
            mode = getattr(layer, "quantization_mode", None)
            if mode:
                raise ModelError(
                    f"layer {layer.name!r} ({type_name(layer)}) was quantized to {mode} by Keras, "
                    "and its weights are not those of a float model: pass the model from before "
                    "quantize(), and quantize the file: to_tflite(model, scheme='int8')"
                )
