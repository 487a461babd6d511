"""Models whose weights Keras's own `quantize` has replaced."""

from typing import Any

from tfprune.errors import ModelError, type_name
from tfprune.keras_support.internals import all_layers


def refuse_quantized(*roots: Any) -> None:
    """Refuse models and layers whose weights are not the numbers that their shapes say.

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
                    "and its weights are no longer those of a float model: give the model as it "
                    "was before quantize(), and let the file be quantized: "
                    "to_tflite(model, scheme='int8')"
                )
