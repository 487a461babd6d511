"""Policies that decide which layers may be pruned, and layers that name their weights."""

from abc import ABC, abstractmethod
from typing import Any

import keras

from tfprune.errors import ModelError
from tfprune.keras_support.internals import layers_below


class PrunableLayer(ABC):
    """A mixin for layers that name the weights to prune.

    Example:
        >>> class Scale(keras.layers.Layer, PrunableLayer):
        ...     def build(self, shape):
        ...         self.table = self.add_weight(shape=(4, 4), name="table")
        ...     def get_prunable_weights(self):
        ...         return [self.table]
    """

    @abstractmethod
    def get_prunable_weights(self) -> list[Any]:
        """Return the variables of this layer that are to be pruned."""


class PruningPolicy(ABC):
    """Decides which layers of a model may be pruned. Subclass it and implement both methods."""

    @abstractmethod
    def allow_pruning(self, layer: Any) -> bool:
        """Return whether the kernels of `layer` may be pruned."""

    @abstractmethod
    def ensure_model_supports_pruning(self, model: Any) -> None:
        """Raise if pruning this model under the policy makes no sense."""


class PruneForLatencyOnXNNPack(PruningPolicy):
    """Prunes only the 1×1 convolutions, whose kernels XNNPACK can run sparsely.

    Whether XNNPACK uses its sparse path also depends on the rest of the model.
    """

    def allow_pruning(self, layer: Any) -> bool:
        return (
            isinstance(layer, keras.layers.Conv2D)
            and tuple(layer.kernel_size) == (1, 1)
            and tuple(layer.strides) == (1, 1)
            and layer.groups == 1
        )

    def ensure_model_supports_pruning(self, model: Any) -> None:
        if not any(self.allow_pruning(layer) for layer in layers_below(model)):
            raise ModelError(
                f"PruneForLatencyOnXNNPack: the model {model.name!r} has no 1×1 Conv2D of stride "
                "1 and one group; only these run sparsely on XNNPACK. Prune without the policy"
            )
