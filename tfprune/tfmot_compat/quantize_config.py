"""What a script says of the rounding of a layer, as a `LayerRounding`."""

from abc import ABC, abstractmethod
from typing import Any

import keras

from tfprune.deploy.qat.layer_map import channel_axis
from tfprune.deploy.qat.rounding.layer_rounding import BITS, LayerRounding, Ranges, WeightRounding
from tfprune.errors import OptionError, type_name
from tfprune.tfmot_compat.quantizers import (
    AllValuesQuantizer,
    FixedQuantizer,
    LastValueQuantizer,
    MovingAverageQuantizer,
    Quantizer,
)


class QuantizeConfig(ABC):
    """Says which weights and activations of a layer are rounded, and how.

    On Keras 3, `set_quantize_weights` and `set_quantize_activations` are not called. Weights that
    are not named are rounded like those of every layer, as the file stores them. A layer of which
    nothing is named computes in floats.
    """

    @abstractmethod
    def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return pairs of a variable of a layer and its quantizer."""

    @abstractmethod
    def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
        """Return pairs of an activation of a layer and the quantizer of its output."""

    @abstractmethod
    def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
        """Put rounded weights into a layer of `tf_keras`."""

    @abstractmethod
    def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
        """Put rounded activations into a layer of `tf_keras`."""

    @abstractmethod
    def get_output_quantizers(self, layer: Any) -> list[Any]:
        """Return the quantizers of the output of a layer, one or none."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the class."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "QuantizeConfig":
        """Return an object with this config."""
        return cls(**config)


_RANGES: dict[type, Ranges] = {
    MovingAverageQuantizer: "moving_average",
    LastValueQuantizer: "last_value",
    AllValuesQuantizer: "all_values",
}
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


def rounding_of(config: QuantizeConfig, layer: Any) -> LayerRounding | None:
    """Return how a built layer of Keras 3 is rounded; None if it is not.

    Raises:
        OptionError: The runtime has no numbers of this kind.
    """
    pairs = config.get_weights_and_quantizers(layer)
    weights = {_name(variable, layer): _of_weight(one, layer) for variable, one in pairs}
    outputs = list(config.get_output_quantizers(layer))
    outputs += [one for _, one in config.get_activations_and_quantizers(layer)]
    if not outputs:
        return LayerRounding(weights=weights, output=False) if weights else None
    quantizer = outputs[0]
    _check(quantizer, layer, "activations", bits=(8,), allowed=(*_RANGES, FixedQuantizer))
    if isinstance(quantizer, FixedQuantizer):
        limits = (float(quantizer.init_min), float(quantizer.init_max))
        return LayerRounding(weights=weights, limits=limits)
    if quantizer.per_axis or (quantizer.narrow_range and not quantizer.symmetric):
        raise OptionError(
            f"{_where(layer)}, activations: the file has one scale for a tensor and all 256 "
            f"values of it. Received {quantizer.get_config()}; use per_axis=False, "
            "narrow_range=False"
        )
    kind = _RANGES[type(quantizer)]
    return LayerRounding(weights=weights, ranges=kind, symmetric=quantizer.symmetric)


def _of_weight(quantizer: Any, layer: Any) -> WeightRounding:
    if isinstance(quantizer, Quantizer) and not type(quantizer).__module__.startswith("tfprune."):
        return WeightRounding(change=quantizer)
    _check(quantizer, layer, "weights", bits=BITS, allowed=(LastValueQuantizer,))
    if not quantizer.symmetric:
        raise OptionError(
            f"{_where(layer)}, weights: 0 is the middle of their range in the file. Received "
            "symmetric=False; use symmetric=True"
        )
    usual = channel_axis(layer) is not None or isinstance(layer, _DEPTHWISE)
    own = None if bool(quantizer.per_axis) == usual else bool(quantizer.per_axis)
    return WeightRounding(bits=quantizer.num_bits, per_channel=own)


def _check(quantizer: Any, layer: Any, what: str, *, bits: Any, allowed: tuple[type, ...]) -> None:
    names = ", ".join(kind.__name__ for kind in allowed)
    if type(quantizer) not in allowed:
        raise OptionError(
            f"{_where(layer)}, {what}: expected one of {names}. Received {type_name(quantizer)}: "
            "the file cannot store what another computes"
        )
    if quantizer.num_bits not in bits:
        raise OptionError(
            f"{_where(layer)}, {what}: the runtime takes {' or '.join(map(str, bits))} bits. "
            f"Received num_bits={quantizer.num_bits!r}"
        )


def _where(layer: Any) -> str:
    return f"quantize_config of layer {layer.name!r}"


def _name(variable: Any, layer: Any) -> str:
    for weight in layer.weights:
        if weight is variable:
            return str(weight.name)
    raise OptionError(
        f"{_where(layer)}: get_weights_and_quantizers has to return variables of the layer. "
        f"Received {type_name(variable)}"
    )
