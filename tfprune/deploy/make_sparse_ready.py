"""Rewrites that let XNNPACK run the sparse 1×1 convolutions of a mobile net."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tfprune.errors import ModelError, type_name
from tfprune.graph.flat import FlatEdits, flat_graph
from tfprune.graph.graph import Call, Graph, Ref
from tfprune.graph.rebuild import operations, read_weights, rebuild
from tfprune.keras_support.models import carry_compile, refuse_quantized


@dataclass(frozen=True)
class SparseRewrite:
    """What `make_sparse_ready` changed.

    Attributes:
        exact: Changes that keep every output the same.
        tune: Changes that shift the receptive field of a layer by one pixel: fine-tune after them.
    """

    exact: tuple[str, ...]
    tune: tuple[str, ...]


class _Rewrite(FlatEdits):
    """Changes of configs, and layers to insert before or after a layer, by layer name."""

    def __init__(self) -> None:
        super().__init__()
        self.configs: dict[str, dict[str, Any]] = {}
        self.pad_before: dict[str, int] = {}
        self.flatten_after: set[str] = set()
        self.grown: set[str] = set()
        self.exact: list[str] = []
        self.tune: list[str] = []

    def config(self, op: Any, config: dict[str, Any]) -> dict[str, Any]:
        return {**super().config(op, config), **self.configs.get(op.name, {})}

    def call(self, call: Call, op: Any, args: Any, kwargs: Any) -> Any:
        if op.name in self.pad_before:
            name = f"{op.name}_padding"
            padding = keras.layers.ZeroPadding2D(self.pad_before[op.name], name=name)
            args = (padding(args[0]), *args[1:])
        return op(*args, **kwargs)

    def after(self, call: Call, made: Any) -> Any:
        if call.op.name not in self.flatten_after:
            return made
        return keras.layers.Flatten(name=f"{call.op.name}_flatten")(made)


def make_sparse_ready(model: keras.Model) -> tuple[keras.Model, SparseRewrite]:
    """Rewrite a model so that XNNPACK can run its sparse file with sparse kernels.

    A stride of 2 that pads one side only, which XNNPACK cannot do channels-first, is replaced:

    - a 3×3 depthwise kernel becomes 5×5 with zeros at its left and top, padded by 2 on all sides:
      the same numbers;
    - the first convolution and a 5×5 depthwise one are padded equally on all sides, which shifts
      them by one pixel to the left and up: nearly the same, so fine-tune after it.

    Global average pooling keeps its axes and is followed by a Flatten: the same numbers. The
    original model is not changed; masks are copied where the shape of the weight is the same.

    Args:
        model: A `keras.Model` of any kind; nested and subclassed ones are unrolled.

    Returns:
        The new model, and the changes. `sparse_ready` on its file shows whether they are enough.

    Raises:
        ModelError: It is no Keras 3 model, or it cannot be read.

    Example:
        model, changes = make_sparse_ready(keras.applications.MobileNetV2(weights=None))
    """
    if not isinstance(model, keras.Model):
        raise ModelError(f"expected a Keras 3 model. Received {type_name(model)}")
    refuse_quantized(model)
    graph = flat_graph(model)
    edits = _plan(graph)
    weights = read_weights(graph)
    grown = [op for op in operations(graph) if op.name in edits.grown]
    larger = {id(op): [_grown(weights[id(op)][0]), *weights[id(op)][1:]] for op in grown}
    rewritten, ops = rebuild(graph, {**weights, **larger}, edits, weights)
    for op in operations(graph):
        for old, new in zip(_variables(op), _variables(ops[id(op)]), strict=True):
            constraint = getattr(old, "constraint", None)
            if constraint is not None and old.shape == new.shape:
                new.constraint = constraint
    carry_compile(model, rewritten)
    return rewritten, SparseRewrite(tuple(edits.exact), tuple(edits.tune))


def _plan(graph: Graph) -> _Rewrite:
    edits = _Rewrite()
    for op in operations(graph):
        if len(graph.calls_of(op)) > 1:
            continue
        if type(op) is keras.layers.GlobalAveragePooling2D and not op.keepdims:
            edits.configs[op.name] = {"keepdims": True}
            edits.flatten_after.add(op.name)
            edits.exact.append(f"{op.name}: keepdims, followed by a Flatten")
        elif type(op) in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D):
            _plan_convolution(graph, op, edits)
    return edits


def _plan_convolution(graph: Graph, layer: Any, edits: _Rewrite) -> None:
    depthwise = type(layer) is keras.layers.DepthwiseConv2D
    size = layer.kernel_size[0]
    if tuple(layer.strides) != (2, 2) or tuple(layer.dilation_rate) != (1, 1):
        return
    if tuple(layer.kernel_size) not in ((3, 3), *(((5, 5),) if depthwise else ())):
        return
    (start,) = graph.calls_of(layer)[0].inputs
    before = None if layer.padding == "same" else _own_padding(graph, start)
    height, width = graph.shape(start if before is None else before.inputs[0])[1:3]
    if layer.padding == "same":
        # TensorFlow pads even sizes by one less before than after, odd sizes equally.
        if height is None or width is None:
            return
        behind = {size // 2 if n % 2 else size // 2 - 1 for n in (height, width)}
        first = behind.pop() if len(behind) == 1 else None
        sides = None if first is None else (first, size // 2)
    elif before is not None:
        found = {tuple(pair) for pair in before.op.padding}
        sides = found.pop() if len(found) == 1 else None
        if height is None or width is None or height % 2 or width % 2:
            return
    else:
        return
    half = size // 2
    if sides == (half, half):
        if layer.padding == "same":
            _pad(layer, None, half, edits)
            edits.exact.append(f"{layer.name}: its padding of {half} is a separate layer")
    elif sides == (half - 1, half):
        grow = depthwise and size == 3
        _pad(layer, before, 2 if grow else half, edits)
        if grow:
            edits.configs[layer.name]["kernel_size"] = (5, 5)
            edits.grown.add(layer.name)
            edits.exact.append(f"{layer.name}: kernel 5×5 with the old one at the bottom right")
        else:
            edits.tune.append(
                f"{layer.name}: padded by {half} on all sides, shifted by one pixel to the left "
                "and up"
            )


def _own_padding(graph: Graph, ref: Ref) -> Call | None:
    """Return the call of a padding that makes a tensor for one reader only, if one does."""
    maker = graph.producers().get(ref.index)
    if maker is None or type(maker.op) is not keras.layers.ZeroPadding2D:
        return None
    alone = len(graph.calls_of(maker.op)) == 1 and graph.only_reader(ref) is not None
    return maker if alone else None


def _pad(layer: Any, before: Call | None, amount: int, edits: _Rewrite) -> None:
    edits.configs[layer.name] = {"padding": "valid"}
    if before is None:
        edits.pad_before[layer.name] = amount
    else:
        edits.configs[before.op.name] = {"padding": ((amount, amount), (amount, amount))}


def _variables(op: Any) -> list[Any]:
    return op.variables if isinstance(op, keras.Layer) else []


def _grown(kernel: np.ndarray) -> np.ndarray:
    return np.pad(kernel, [(2, 0), (2, 0), (0, 0), (0, 0)])
