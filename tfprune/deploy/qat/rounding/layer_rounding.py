"""How one layer trains under rounding, and the rules for layers of one's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import keras

from tfprune.errors import OptionError, nearest

Ranges = Literal["widening", "moving_average", "last_value", "all_values"]
"""How the range of a tensor follows the batches of training."""

# The weight of the past when a range narrows, and whether it widens at once.
RANGES: dict[str, tuple[float, bool]] = {
    "widening": (0.99, True),
    "moving_average": (0.999, False),
    "last_value": (0.0, False),
    "all_values": (1.0, True),
}
BITS = (4, 8)


def check_ranges(ranges: Any) -> None:
    """Raise unless a kind of ranges is known.

    Raises:
        OptionError: It is unknown.
    """
    if ranges not in RANGES:
        raise OptionError(
            f"ranges: unknown kind {ranges!r}. {nearest(str(ranges), get_args(Ranges))}"
        )


@dataclass(frozen=True)
class WeightRounding:
    """How one weight is rounded.

    Attributes:
        bits: The bits of an integer, 4 or 8.
        per_channel: Whether each output channel has its own scale. None: of convolutions each has.
        change: Called as `change(weight, training, variables)` before the weight is rounded;
            `change.build(shape, name, layer)` returns the variables.
    """

    bits: int = 8
    per_channel: bool | None = None
    change: Any = None

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise OptionError(
                f"bits: the runtime takes weights of 4 or 8 bits. Received {self.bits!r}"
            )

    def get_config(self) -> dict[str, Any]:
        """Return this as plain data."""
        change = keras.saving.serialize_keras_object(self.change)
        return {"bits": self.bits, "per_channel": self.per_channel, "change": change}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "WeightRounding":
        """Return what `get_config` returned as an object."""
        change = keras.saving.deserialize_keras_object(config["change"])
        return cls(**{**config, "change": change})


@dataclass(frozen=True)
class LayerRounding:
    """How a layer trains under rounding.

    Attributes:
        bits: The bits of its kernels.
        weights: How single weights are rounded, by the name of their attribute. Those that are not
            here are rounded like the kernels of every layer, as the file stores them.
        ranges: How the range of its output follows the batches: "widening" widens at once and
            narrows slowly, "moving_average" follows slowly, "last_value" has the last batch alone
            and "all_values" all batches.
        limits: Fixed limits of the output instead.
        symmetric: Whether 0 is the middle of the range of the output.
        output: Whether the output is rounded. If not, it is where a rounded layer reads it.

    Example:
        >>> LayerRounding(weights={"scale": WeightRounding(bits=4)}, ranges="all_values").output
        True
    """

    bits: int = 8
    weights: Mapping[str, WeightRounding] = field(default_factory=dict)
    ranges: Ranges = "widening"
    limits: tuple[float, float] | None = None
    symmetric: bool = False
    output: bool = True

    def __post_init__(self) -> None:
        WeightRounding(self.bits)
        check_ranges(self.ranges)

    def of_weights(self, layer: Any) -> list[WeightRounding | None]:
        """Return how each weight of a built layer is rounded; None for what is not a kernel.

        Raises:
            OptionError: A name is not that of a weight.
        """
        weights = list(layer.weights)
        found = [WeightRounding(self.bits) if len(w.shape) > 1 else None for w in weights]
        for name, rounding in self.weights.items():
            own = getattr(layer, name, None)
            places = [i for i, w in enumerate(weights) if w is own or w.name == name]
            if not places:
                known = [weight.name for weight in weights]
                raise OptionError(
                    f"layer {layer.name!r}: no weight {name!r}. {nearest(name, known)}"
                )
            found[places[0]] = rounding
        return found


DEFAULT = LayerRounding()

_RULES: dict[type, Callable[[Any], LayerRounding]] = {}


def register(kind: type) -> Callable[[Callable[[Any], LayerRounding]], Any]:
    """Return a decorator for a function that says how layers of a class of one's own are rounded.

    The function takes a built layer and returns a `LayerRounding`. Such layers train whole, with
    every weight and tensor inside rounded; others are unrolled into layers of Keras.

    Args:
        kind: The class.

    Example:
        >>> class Own(keras.layers.Dense):
        ...     pass
        >>> @register(Own)
        ... def own_rounding(layer):
        ...     return LayerRounding(bits=4)
    """

    def add(rule: Callable[[Any], LayerRounding]) -> Callable[[Any], LayerRounding]:
        _RULES[kind] = rule
        return rule

    return add


def has_rule(layer: Any) -> bool:
    """Return whether a rule is registered for the class of a layer."""
    return type(layer) in _RULES


def rule_for(layer: Any) -> LayerRounding:
    """Return how a layer is rounded by the rule of its class; without one, as every layer."""
    rule = _RULES.get(type(layer))
    return DEFAULT if rule is None else rule(layer)


def own_config(
    clusters: Sequence[int], roundings: Sequence[WeightRounding | None]
) -> dict[str, Any]:
    """Return what a config says of the weights of a layer that are rounded otherwise than most."""
    own: dict[str, Any] = {"clusters": list(clusters)} if any(clusters) else {}
    if any(roundings):
        own["roundings"] = [None if one is None else one.get_config() for one in roundings]
    return own


def from_configs(roundings: Sequence[Any]) -> tuple[WeightRounding | None, ...]:
    """Return roundings of weights from the config of a layer, or as they are."""
    return tuple(
        WeightRounding.from_config(one) if isinstance(one, Mapping) else one for one in roundings
    )
