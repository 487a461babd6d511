"""The layer that says that the layer inside it is to be rounded."""

from typing import Any

import keras

from tfprune.keras_support.internals import input_shape_of, set_input_shape


@keras.saving.register_keras_serializable("tfprune")
class QuantizeAnnotate(keras.layers.Wrapper):
    """A layer that computes what the layer inside does, and says that it is to be rounded.

    Args:
        layer: The layer.
        quantize_config: How it is rounded; None: as layers of its kind are.
        **kwargs: Arguments of every layer.
    """

    def __init__(self, layer: Any, quantize_config: Any = None, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        self.quantize_config = quantize_config
        self.supports_masking = True
        if (shape := input_shape_of(layer)) is not None:
            set_input_shape(self, shape)

    def build(self, input_shape: Any = None) -> None:
        """Build the layer inside, unless its first call does."""
        if input_shape is not None:
            super().build(input_shape)

    def call(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return what the layer returns."""
        return self.layer(inputs, *args, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Return the mask of the layer."""
        return self.layer.compute_mask(inputs, previous_mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the output of the layer."""
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the config of the layer."""
        config = keras.saving.serialize_keras_object(self.quantize_config)
        return {**super().get_config(), "quantize_config": config}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "QuantizeAnnotate":
        """Return a layer with this config."""
        config = dict(config)
        with keras.saving.custom_object_scope(custom_objects or {}):
            for name in ("layer", "quantize_config"):
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)
