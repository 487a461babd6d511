"""The masks that Keras attaches to tensors, as tensors that a traced call takes and returns."""

import inspect
from typing import Any

import keras
from keras import ops, tree

from tfprune.keras_support.internals import mask_of, with_mask


@keras.saving.register_keras_serializable(package="tfprune")
class MaskOf(keras.layers.Layer):
    """Gives the mask that Keras attached to its input, to be read like any tensor.

    Args:
        axes: How many axes the mask has: the first of the input.
    """

    def __init__(self, axes: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axes = axes

    def call(self, inputs: Any) -> Any:
        """Return the mask."""
        mask = mask_of(inputs)
        if mask is None:
            raise ValueError(f"the input of layer {self.name!r} has no mask")
        return mask

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return a symbolic tensor like the mask."""
        return keras.KerasTensor(inputs.shape[: self.axes], "bool")

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """Return no mask."""

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that the layer was made with."""
        return {**super().get_config(), "axes": self.axes}


@keras.saving.register_keras_serializable(package="tfprune")
class WithMask(keras.layers.Layer):
    """Gives the first of two tensors, with the second as the mask that later layers see."""

    def call(self, inputs: Any) -> Any:
        """Return the first tensor."""
        tensor, mask = inputs
        return with_mask(ops.copy(tensor), mask)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        """Return a symbolic tensor like the first."""
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Return the second tensor."""
        return inputs[1]


def passes_mask(op: Any) -> bool:
    """Return whether an operation is a layer that gives its output the mask of its input."""
    if not isinstance(op, keras.Layer) or not op.supports_masking:
        return False
    return type(op).compute_mask is keras.Layer.compute_mask


def implicit_masks(op: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return the masks that Keras would give a layer's `call`, by the names of its arguments.

    It takes them from the tensors among the other arguments, unless they are given.
    """
    bound = inspect.signature(op.call).bind(*args, **kwargs)
    wanted = set(inspect.signature(op.call).parameters)
    tensors = {
        name: value
        for name, value in bound.arguments.items()
        if any(isinstance(leaf, keras.KerasTensor) for leaf in tree.flatten(value))
    }
    names = {name: "mask" if len(tensors) == 1 else f"{name}_mask" for name in tensors}
    return {
        name: tree.map_structure(_mask, tensors[of])
        for of, name in names.items()
        if name in wanted and bound.arguments.get(name) is None
    }


def masks_after(op: Any, args: Any, kwargs: Any, outputs: Any) -> list[Any]:
    """Return the masks that Keras would attach to the outputs of a layer's call, in order.

    None stands for an output that gets none, or has one from within the call.
    """
    flat = tree.flatten(outputs)
    missing = [one is not None and mask_of(one) is None for one in flat]
    if not op.supports_masking or not any(missing):
        return [None] * len(flat)
    first = next(iter([*args, *kwargs.values()]), None)
    given = kwargs.get("mask")
    before = tree.map_structure(_mask, first) if given is None else given
    found = tree.flatten(op.compute_mask(first, before))
    found += [None] * (len(flat) - len(found))
    return [mask if lacks else None for mask, lacks in zip(found, missing, strict=False)]


def _mask(tensor: Any) -> Any:
    return mask_of(tensor) if isinstance(tensor, keras.KerasTensor) else None
