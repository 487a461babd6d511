"""Layers that give a weight or a constant as a tensor, where a model reads one by itself."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class _Source(keras.layers.Layer):
    """A layer whose output does not depend on its input, which only gives it a place in a model."""

    shape: tuple[int, ...]

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return a symbolic tensor without a batch."""
        return keras.KerasTensor(self.shape, dtype=self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """Return no mask."""


@keras.saving.register_keras_serializable(package="tfprune")
class Constant(_Source):
    """Gives a constant as a tensor, such as the positions that an embedding is called on.

    Args:
        value: An array or nested list.
    """

    def __init__(self, value: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.value = np.asarray(value, self.dtype)
        self.shape = self.value.shape
        self.supports_masking = True

    def call(self, inputs: Any) -> Any:
        """Return the constant."""
        return ops.convert_to_tensor(self.value)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that the layer was made with."""
        return {**super().get_config(), "value": self.value.tolist()}


@keras.saving.register_keras_serializable(package="tfprune")
class Weight(_Source):
    """Gives a weight as a tensor: a class token, a table of positions, a scale for each channel.

    Args:
        shape: The shape of the weight.
        fixed: Whether the weight is not trained, whatever `trainable` is.
        initializer: The first values.
        regularizer: A penalty on the weight.
        constraint: A constraint on the weight.

    Example:
        >>> import numpy as np
        >>> scale = Weight((3,), initializer="ones")
        >>> np.asarray(scale(np.zeros((8, 2), "float32"))).tolist()
        [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        shape: Sequence[int],
        fixed: bool = False,
        initializer: Any = "zeros",
        regularizer: Any = None,
        constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.shape, self.fixed = tuple(shape), fixed
        self.initializer = keras.initializers.get(initializer)
        self.regularizer = keras.regularizers.get(regularizer)
        self.constraint = keras.constraints.get(constraint)
        self.supports_masking = True
        self.weight: Any = None

    def build(self, inputs_shape: Any = None) -> None:
        """Make the weight, unless it was given."""
        if self.weight is None:
            self.weight = self.add_weight(
                shape=self.shape,
                initializer=self.initializer,
                regularizer=self.regularizer,
                constraint=self.constraint,
                trainable=not self.fixed,
                name="weight",
            )

    def call(self, inputs: Any) -> Any:
        """Return the weight."""
        return ops.convert_to_tensor(self.weight)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that the layer was made with."""
        return {
            **super().get_config(),
            "shape": self.shape,
            "fixed": self.fixed,
            "initializer": keras.initializers.serialize(self.initializer),
            "regularizer": keras.regularizers.serialize(self.regularizer),
            "constraint": keras.constraints.serialize(self.constraint),
        }


def constraint_of(variable: Any) -> Any:
    """Return the constraint of a variable that its layer was made with, without pruning masks."""
    constraint = variable.constraint
    while type(constraint).__module__.startswith("tfprune."):
        constraint = getattr(constraint, "inner", None)
    return constraint


def weight_of(variable: Any, name: str, dtype: Any, fixed: bool) -> Weight:
    """Return a built layer that gives an existing variable, which both then share."""
    layer = Weight(
        variable.shape,
        fixed,
        regularizer=variable.regularizer,
        constraint=constraint_of(variable),
        name=name,
        dtype=dtype,
    )
    layer.weight = variable
    layer.built = True
    return layer
