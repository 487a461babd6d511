"""Gates: layers that learn which units can be removed.

A gate multiplies each unit by a number. `shrink(model, "gates")` removes the units whose gate
is zero (closed), and then the gates themselves.
"""

import math
from typing import Any, Literal, get_args

import keras
from keras import ops

from tfprune.errors import OptionError, nearest
from tfprune.graph.graph import Call
from tfprune.structure.ids.flow import Flow
from tfprune.structure.ids.ids import Axes
from tfprune.structure.ids.rule_registry import layers as rule_for

Kind = Literal["hard", "l1", "hard_concrete"]
KINDS = get_args(Kind)

# The stretched and clipped concrete distribution of Louizos, Welling and Kingma (2018).
BETA, LOW, HIGH = 2 / 3, -0.1, 1.1


@keras.saving.register_keras_serializable(package="tfprune")
class ChannelGate(keras.layers.Layer):
    """Multiplies each channel by a gate.

    Args:
        kind: "hard": a gate is 0 or 1 and is set, not learned; its gradient is the Taylor score
            of its unit. "l1": at least 0, learned with an L1 penalty; closed below `threshold`.
            "hard_concrete": between 0 and 1, random while it trains, learned with an L0 penalty.
        penalty: The weight of the penalty on the mean of the gates (of the probability to be
            open, for "hard_concrete") in the loss.
        axis: The axis of the units.
        threshold: A learned gate of at most this size is closed.
        seed: Seed of the random gates.

    Example:
        >>> import numpy as np
        >>> gate = ChannelGate()
        >>> gate(np.ones((1, 3), "float32")).shape
        TensorShape([1, 3])
        >>> gate.close([1])
        >>> np.asarray(gate(np.ones((1, 3), "float32"))).tolist()
        [[1.0, 0.0, 1.0]]
    """

    def __init__(
        self,
        kind: Kind = "hard",
        penalty: float = 0.0,
        axis: int = -1,
        threshold: float = 1e-3,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if kind not in KINDS:
            raise OptionError(f"gate kind: unknown {kind!r}. {nearest(str(kind), KINDS)}")
        for option, value in (("penalty", penalty), ("threshold", threshold)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value < math.inf:
                raise OptionError(f"gate {option}: expected a number of at least 0, not {value!r}")
        super().__init__(**kwargs)
        self.kind, self.penalty, self.axis = kind, float(penalty), axis
        self.threshold, self.seed = threshold, seed
        self.random = keras.random.SeedGenerator(seed) if kind == "hard_concrete" else None
        self.supports_masking = True

    def build(self, input_shape: tuple) -> None:
        """Make one gate for each position of the axis, all of them open."""
        rank = len(input_shape)
        if not isinstance(self.axis, int) or not -rank <= self.axis < rank or not self.axis % rank:
            raise OptionError(
                f"gate {self.name!r}: axis {self.axis!r} is not an axis after the batch of "
                f"{tuple(input_shape)}"
            )
        size = input_shape[self.axis]
        if size is None:
            raise OptionError(f"gate {self.name!r}: axis {self.axis} has no known size")
        start = 2.2 if self.kind == "hard_concrete" else 1.0
        self.gate = self.add_weight(
            shape=(size,),
            initializer=keras.initializers.Constant(start),
            trainable=self.kind != "hard",
            # The optimizer's momentum does not make a gate negative.
            constraint=keras.constraints.NonNeg() if self.kind == "l1" else None,
            autocast=False,
            name="gate",
        )

    def values(self) -> Any:
        """Return the values of the gates in inference; exactly 0 for closed gates."""
        if self.kind == "hard":
            return ops.convert_to_tensor(self.gate)
        if self.kind == "l1":
            gate = ops.convert_to_tensor(self.gate)
            return ops.where(ops.abs(gate) <= self.threshold, ops.zeros_like(gate), gate)
        return self._stretch(ops.sigmoid(self.gate))

    def close(self, positions: Any) -> None:
        """Close the gates at these positions.

        Raises:
            OptionError: The layer is not built, or has no such positions.
        """
        if not self.built:
            raise OptionError(f"gate {self.name!r}: is not built: call it on data first")
        value = keras.ops.convert_to_numpy(self.gate).copy()
        try:
            value[list(positions)] = -20.0 if self.kind == "hard_concrete" else 0.0
        except (IndexError, TypeError):
            raise OptionError(
                f"gate {self.name!r}: expected positions below {len(value)} to close. "
                f"Received {positions!r}"
            ) from None
        self.gate.assign(value)

    def _stretch(self, value: Any) -> Any:
        return ops.clip(value * (HIGH - LOW) + LOW, 0.0, 1.0)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Multiply by the gates; in training, draw the random gates and add the penalty."""
        if self.kind == "hard_concrete" and training:
            noise = keras.random.uniform(self.gate.shape, 1e-6, 1 - 1e-6, seed=self.random)
            logits = (ops.log(noise) - ops.log(1 - noise) + self.gate) / BETA
            gate = self._stretch(ops.sigmoid(logits))
        elif self.kind == "l1" and training:
            gate = ops.convert_to_tensor(self.gate)
        else:
            gate = self.values()
        if self.penalty and training:
            if self.kind == "hard_concrete":
                cost = ops.mean(ops.sigmoid(self.gate - BETA * math.log(-LOW / HIGH)))
            else:
                cost = ops.mean(ops.abs(self.gate))
            self.add_loss(self.penalty * cost)
        shape = [1] * len(inputs.shape)
        shape[self.axis] = -1
        return inputs * ops.cast(ops.reshape(gate, shape), inputs.dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Return the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {
            **super().get_config(),
            "kind": self.kind,
            "penalty": self.penalty,
            "axis": self.axis,
            "threshold": self.threshold,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="tfprune")
class HeadGate(ChannelGate):
    """A gate for each head of a tensor (…, heads, width), as EinsumDense makes them."""

    def __init__(self, kind: Kind = "hard", penalty: float = 0.0, axis: int = -2, **kwargs: Any):
        super().__init__(kind, penalty, axis, **kwargs)


@rule_for(ChannelGate, HeadGate)
def gate_rule(flow: Flow, call: Call) -> Axes:
    """Bind the gates to the axis that they multiply."""
    axes = flow.axes(call.args[0])
    flow.site(call.op).bind(call.op.gate, 0, axes[call.op.axis])
    return axes
