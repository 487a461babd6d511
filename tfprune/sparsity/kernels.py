"""The kernels of a model, which can be pruned, and their views as inputs by outputs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from tfprune.errors import type_name
from tfprune.keras_support.internals import direct_layers, own_variables
from tfprune.utils.einsum import letters_of

KERNEL_NAMES = ("kernel", "recurrent_kernel", "pointwise_kernel", "embeddings")


@dataclass(frozen=True)
class PrunableKernel:
    """One weight variable that can be pruned.

    Args:
        path: Its path in the model, made unique by `#2`, `#3` … if Keras uses one twice.
        layer: The layer that owns it.
        variable: The variable itself.
        axes: The axes of the kernel as (outer, inputs, outputs): those of window positions and
            the like, those contracted with the input, and those of the output.
    """

    path: str
    layer: Any
    variable: Any
    axes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.variable.shape)

    def names(self) -> list[str]:
        """Return the names that a filter can match: its path and its layer's name."""
        return [self.path, self.layer.name]

    def view(self, array: NDArray) -> NDArray:
        """Return an array of the kernel's shape as (outer, inputs, outputs)."""
        order = [axis for group in self.axes for axis in group]
        sizes = [int(np.prod([array.shape[axis] for axis in group])) for group in self.axes]
        return array.transpose(order).reshape(sizes)

    def unview(self, view: NDArray) -> NDArray:
        """Undo `view`."""
        order = [axis for group in self.axes for axis in group]
        shape = self.shape
        return view.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))


@dataclass(frozen=True)
class Skipped:
    """A layer that is not pruned, and why.

    Args:
        layer: Its name.
        kind: Its class, with the package.
        reason: Why it is not pruned.
        usual: True if such a layer is never pruned, so that `strict` accepts it.
    """

    layer: str
    kind: str
    reason: str
    usual: bool


def find_kernels(roots: Sequence[Any]) -> tuple[list[PrunableKernel], list[Skipped]]:
    """Return the kernels below some layers or models, each once, and the layers without one."""
    kernels: list[PrunableKernel] = []
    skipped: list[Skipped] = []
    seen: set[int] = set()
    for layer in walk_layers(roots):
        own = own_variables(layer)
        variables, reason, usual = _prunable(layer, own)
        fresh = [variable for variable in variables if id(variable) not in seen]
        seen.update(map(id, fresh))
        kernels += [PrunableKernel(v.path, layer, v, _axes(layer, v)) for v in fresh]
        if reason and own:
            skipped.append(Skipped(layer.name, type_name(layer), reason, usual))
    return _unique_paths(kernels), skipped


def find_variables(roots: Sequence[Any]) -> list[PrunableKernel]:
    """Return every weight variable below some layers or models, each once: kernels and others.

    Kernels have the same paths as in `find_kernels`. Biases and the like have no input and output
    axes: all their axes are outer ones.
    """
    kernels = {id(kernel.variable): kernel for kernel in find_kernels(roots)[0]}
    found: dict[int, PrunableKernel] = dict(kernels)
    for layer in walk_layers(roots):
        for variable in own_variables(layer):
            axes = (tuple(range(len(variable.shape))), (), ())
            found.setdefault(id(variable), PrunableKernel(variable.path, layer, variable, axes))
    others = [found[key] for key in found if key not in kernels]
    return [*kernels.values(), *_unique_paths(others)]


def walk_layers(roots: Sequence[Any]) -> Iterator[Any]:
    """Yield every layer below some layers or models, themselves included, each once, in order."""
    seen: set[int] = set()
    waiting = list(reversed(roots))
    while waiting:
        layer = waiting.pop()
        if id(layer) not in seen:
            seen.add(id(layer))
            yield layer
            waiting += reversed(direct_layers(layer))


def _unique_paths(kernels: list[PrunableKernel]) -> list[PrunableKernel]:
    counts: Counter[str] = Counter()
    unique = []
    for kernel in kernels:
        counts[kernel.path] += 1
        number = counts[kernel.path]
        path = kernel.path if number == 1 else f"{kernel.path}#{number}"
        unique.append(PrunableKernel(path, kernel.layer, kernel.variable, kernel.axes))
    return unique


_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)

_WITHOUT_KERNEL = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    keras.layers.PReLU,
    keras.layers.RMSNormalization,
    keras.layers.SpectralNormalization,
    keras.layers.UnitNormalization,
)


def _prunable(layer: Any, own: list[Any]) -> tuple[list[Any], str, bool]:
    """Return the variables of a layer to prune or, if none, the reason and whether it is usual."""
    if hasattr(layer, "get_prunable_weights"):
        chosen = list(layer.get_prunable_weights())
        return chosen, "" if chosen else "its get_prunable_weights() returns nothing", True
    if isinstance(layer, _DEPTHWISE):
        return [], "depthwise kernels have few weights, and pruning them costs accuracy", True
    if getattr(layer, "lora_enabled", False):
        return [], "LoRA is enabled: merge it into the kernel first", False
    named = [v for v in own if v.name in KERNEL_NAMES and len(v.shape) >= 2]
    floats = [v for v in named if keras.backend.is_float_dtype(v.dtype)]
    if named and not floats:
        return [], f"its kernel is already quantized ({named[0].dtype})", False
    if floats:
        return floats, "", True
    if isinstance(layer, _WITHOUT_KERNEL) or all(len(v.shape) < 2 for v in own):
        return [], "no kernel", True
    return [], f"no variable named {', '.join(KERNEL_NAMES)}; add get_prunable_weights()", False


_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def _axes(layer: Any, variable: Any) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    rank = len(variable.shape)
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel, outputs = letters_of(layer.equation)
        outer = tuple(i for i, c in enumerate(kernel) if c in inputs and c in outputs)
        contracted = tuple(i for i, c in enumerate(kernel) if c in inputs and c not in outputs)
        made = tuple(i for i, c in enumerate(kernel) if c not in inputs)
        return outer, contracted, made
    if isinstance(layer, _TRANSPOSED):
        return tuple(range(rank - 2)), (rank - 1,), (rank - 2,)
    return tuple(range(rank - 2)), (rank - 2,), (rank - 1,)
