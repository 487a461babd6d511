"""The kernels of a model, which can be pruned, and their views as inputs by outputs."""

import contextlib
import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfprune.errors import ModelError, type_name
from tfprune.graph.call_kinds import layers_named
from tfprune.graph.flat import is_primitive
from tfprune.graph.graph import Call, Graph
from tfprune.graph.read import read
from tfprune.graph.tracing.weight import Weight
from tfprune.keras_support.internals import direct_layers, own_variables
from tfprune.utils.einsum import kernel_axes

Axes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
"""The axes of a kernel: those of window positions and the like, of inputs, and of outputs."""

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
    axes: Axes

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


def refuse_unknown(skipped: Sequence[Skipped], call: str, done: str) -> None:
    """Raise ModelError if layers were skipped because they are unknown.

    Args:
        skipped: The skipped layers.
        call: The call that skipped them: `prune`.
        done: What it would have done with them: `pruned`.
    """
    unknown = [entry for entry in skipped if not entry.usual]
    if unknown:
        listed = "; ".join(f"{e.layer} ({e.kind}): {e.reason}" for e in unknown)
        raise ModelError(f"{call}: strict=True and these layers cannot be {done}: {listed}")


def find_kernels(roots: Sequence[Any]) -> tuple[list[PrunableKernel], list[Skipped]]:
    """Return the kernels below some layers or models, each once, and the layers without one."""
    kernels: list[PrunableKernel] = []
    skipped: list[Skipped] = []
    seen: set[int] = set()
    used = _UsedWeights(roots)
    for layer in walk_layers(roots):
        own = own_variables(layer)
        variables, reason, usual = _prunable(layer, own, used)
        fresh = [variable for variable in variables if id(variable) not in seen]
        seen.update(map(id, fresh))
        for variable in fresh:
            axes = used.axes.get(id(variable)) or axes_of(layer, variable)
            kernels.append(PrunableKernel(variable.path, layer, variable, axes))
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
            axes = _without_inputs(variable)
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


_DEPTHWISE = layers_named("DepthwiseConv1D DepthwiseConv2D")

_WITHOUT_KERNEL = layers_named(
    "BatchNormalization GroupNormalization LayerNormalization Normalization PReLU "
    "RMSNormalization SpectralNormalization UnitNormalization"
)


class _UsedWeights:
    """What the calls of a model do with the own weights of its custom layers.

    The model is read when a layer asks, since most models have no such layer.
    """

    def __init__(self, roots: Sequence[Any]) -> None:
        self._roots = roots
        self._read = False
        self.axes: dict[int, Axes] = {}
        self._known: set[int] = set()

    def of(self, own: Sequence[Any]) -> tuple[list[Any], str, bool]:
        """Return those of a layer's weights that a product reads or, if none, why; see `Skipped`.

        Args:
            own: The weights.
        """
        if not self._read:
            self._read = True
            for root in self._roots:
                if isinstance(root, keras.Model):
                    self._add(root)
        found = [variable for variable in own if id(variable) in self.axes]
        known = all(id(variable) in self._known for variable in own)
        why = "no product reads its weights" if known else "its call cannot be read"
        return found, "" if found else f"{why}; add get_prunable_weights()", known

    def _add(self, model: Any) -> None:
        with contextlib.suppress(ModelError):  # Of a model that was never called, for example.
            self._note(read(model, is_primitive))

    def _note(self, graph: Graph) -> None:
        for call in (call for call in graph.calls if is_primitive(call.op)):
            self._known.update(map(id, getattr(call.op, "weights", ())))
            if type(call.op) is Weight:
                axes = _axes_of_products(graph, call)
                if axes is not None:
                    self.axes[id(call.op.weight)] = axes
            elif isinstance(call.op, keras.Layer):
                for variable in own_variables(call.op):
                    if variable.name not in KERNEL_NAMES and len(variable.shape) >= 2:
                        self.axes[id(variable)] = axes_of(call.op, variable)


def _axes_of_products(graph: Graph, weight: Call) -> Axes | None:
    """Return the axes of a weight in the product that reads it, None if there is none."""
    rank, waiting = len(weight.op.shape), [(weight.outputs[0], tuple(range(len(weight.op.shape))))]
    while waiting:
        ref, order = waiting.pop()
        for call in (call for call in graph.calls if ref in call.inputs):
            name = type(call.op).__name__
            if name == "Transpose":
                axes = call.op.axes or tuple(reversed(range(rank)))
                waiting.append((call.outputs[0], tuple(order[axis] for axis in axes)))
            elif name in ("Cast", "ConvertToTensor"):
                waiting.append((call.outputs[0], order))
            elif name in ("Matmul", "Dot") and rank >= 2:
                inputs, outputs = order[-2:] if call.args[1] == ref else order[-1:-3:-1]
                return order[:-2], (inputs,), (outputs,)
            elif name == "Einsum" and len(call.args) == 2:
                parts, _, result = call.op.subscripts.replace(" ", "").partition("->")
                mine, other = parts.split(",")[:: 1 if call.args[0] == ref else -1]
                shared = [order[i] for i, letter in enumerate(mine) if letter in other]
                outer = [order[i] for i, c in enumerate(mine) if c in other and c in result]
                summed = tuple(axis for axis in shared if axis not in outer)
                return tuple(outer), summed, tuple(a for a in order if a not in shared)
            elif name == "Take" and call.args[0] == ref and rank == 2:
                return (), (order[0],), (order[1],)
    return None


def _prunable(layer: Any, own: list[Any], used: _UsedWeights) -> tuple[list[Any], str, bool]:
    """Return the variables of a layer to prune or, if none, the reason and whether it is usual."""
    if hasattr(layer, "get_prunable_weights"):
        if not layer.built:
            return [], "", True  # it has no weights to return yet
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
    return used.of(own)


_TRANSPOSED = layers_named("Conv#DTranspose")


def _without_inputs(variable: Any) -> Axes:
    return tuple(range(len(variable.shape))), (), ()


def axes_of(layer: Any, variable: Any) -> Axes:
    """Return the axes of a kernel of a layer as (outer, inputs, outputs)."""
    rank = len(variable.shape)
    if rank < 2:
        return _without_inputs(variable)
    if isinstance(layer, keras.layers.EinsumDense):
        return kernel_axes(layer.equation)
    if isinstance(layer, _TRANSPOSED):
        return tuple(range(rank - 2)), (rank - 1,), (rank - 2,)
    return tuple(range(rank - 2)), (rank - 2,), (rank - 1,)


def variable_beside(variable: Any, value: NDArray, dtype: Any) -> Any:
    """Return a new variable with a value, mirrored on the same devices as another."""
    strategy = getattr(variable.value, "distribute_strategy", None)
    scope: Any = contextlib.nullcontext()
    if strategy is not None and strategy.num_replicas_in_sync > 1:
        scope = strategy.scope()
    with tf.init_scope(), scope:
        return tf.Variable(
            tf.cast(value, dtype),
            trainable=False,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )


def attach_when_built(call: Any, name: str, layer: Any) -> None:
    """Have the kernels of a layer attached as soon as it is built.

    Args:
        call: A call of `prune` or `cluster`, with a method `attach`.
        name: The attribute of the layer's hook that holds the call.
        layer: A layer that is not built yet.
    """
    build = layer.build

    @functools.wraps(build)  # Keras reads the signature
    def build_then_attach(*args: Any, **kwargs: Any) -> Any:
        layer.build = build
        result = build(*args, **kwargs)
        call.attach([layer])
        return result

    setattr(build_then_attach, name, call)
    layer.build = build_then_attach


def stop_waiting(roots: Sequence[Any], name: str, call: Any = None) -> None:
    """Remove the hooks of a name on unbuilt layers: those of one call, or all."""
    for layer in walk_layers(roots):
        while (waiting := getattr(layer.build, name, None)) is not None:
            if call is not None and waiting is not call:
                break
            layer.build = layer.build.__wrapped__
