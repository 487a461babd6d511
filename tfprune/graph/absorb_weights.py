"""Calls that compute with a weight, such as `matmul(x, weight)`, as layers of Keras."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from keras import layers as kl
from keras import tree

from tfprune.graph.graph import Call, Graph, Ref
from tfprune.graph.tracing.weight import Weight, constraint_of
from tfprune.keras_support.internals import is_keras_operation, store_kernel, store_table
from tfprune.utils.einsum import is_product, letters_of


@dataclass(frozen=True)
class _Form:
    """The layer that one call is: calls of one weight with the same key are calls of one layer.

    Attributes:
        key: What the call computes.
        takes: The argument besides the weight.
        make: Returns the layer for options that all layers take.
        store: Stores the weight in the layer.
        units: The size of the layer's bias; 0 if it has none.
    """

    key: Hashable
    takes: Any
    make: Callable[..., Any]
    store: Callable[[Any, Any], None] = store_kernel
    units: int = 0


def absorb_weights(graph: Graph) -> Graph:
    """Replace calls that compute with a weight by calls of layers that hold the weight.

    A product becomes a Dense or EinsumDense layer, a convolution a Conv layer, and a lookup an
    Embedding. A weight that is also used otherwise, or is not trained with its layer, stays.
    """
    for call in [call for call in graph.calls if type(call.op) is Weight]:
        readers = graph.readers(call.outputs[0])
        forms = [_form(graph, reader, call.outputs[0]) for reader in readers]
        first = forms[0] if forms else None
        if first is None or call.op.fixed or call.outputs[0] in tree.flatten(graph.outputs):
            continue
        if all(form is not None and form.key == first.key for form in forms):
            _absorb(graph, call, list(zip(readers, forms, strict=True)))
    return graph


def _absorb(graph: Graph, weight: Call, uses: Sequence[tuple[Call, Any]]) -> None:
    form = uses[0][1]
    bias = _bias(graph, [reader for reader, _ in uses], form.units)
    variable = weight.op.weight
    options = {"name": weight.op.name, "dtype": weight.op.dtype_policy}
    for key, one in ("kernel", variable), ("bias", bias[0][1].op.weight if bias else None):
        if one is not None and form.store is store_kernel:
            options |= {
                f"{key}_regularizer": one.regularizer,
                f"{key}_constraint": constraint_of(one),
            }
    layer = form.make(bool(bias), **options)
    form.store(layer, variable)
    if form.store is store_kernel:
        layer.bias = bias[0][1].op.weight if bias else None
    layer.built = True
    layer.trainable = weight.op.trainable
    for reader, use in uses:
        reader.op, reader.args, reader.kwargs = layer, (use.takes,), {}
    for (reader, _), (add, _) in zip(uses, bias, strict=False):
        reader.outputs = add.outputs
    gone = [weight, *(call for pair in bias for call in pair)]
    graph.calls = [call for call in graph.calls if all(call is not other for other in gone)]


def _bias(graph: Graph, products: Sequence[Call], units: int) -> list[tuple[Call, Call]]:
    """Return, for each product, the sum that adds the same bias, and the call of that weight."""
    makers = graph.producers()
    found = []
    for product in products if units else ():
        add = graph.only_reader(product.outputs[0])
        if add is None or type(add.op).__name__ != "Add" or len(add.args) != 2 or add.kwargs:
            return []
        other = add.args[1] if add.args[0] == product.outputs[0] else add.args[0]
        maker = makers.get(other.index) if isinstance(other, Ref) else None
        if maker is None or type(maker.op) is not Weight or maker.op.fixed:
            return []
        if maker.op.shape != (units,) or other in tree.flatten(graph.outputs):
            return []
        found.append((add, maker))
    weights = {id(maker) for _, maker in found}
    if len(weights) != 1:
        return []
    return found if len(graph.readers(found[0][1].outputs[0])) == len(found) else []


def _form(graph: Graph, call: Call, weight: Ref) -> _Form | None:
    """Return the layer that a call with a weight is, or None."""
    find = _FORMS.get(type(call.op).__name__)
    if find is None or not is_keras_operation(type(call.op)) or call.kwargs:
        return None
    if len(call.args) != 2 or not all(isinstance(leaf, Ref) for leaf in call.args):
        return None
    if call.args.count(weight) != 1:
        return None
    return find(graph, call, weight)


def _product(graph: Graph, call: Call, weight: Ref) -> _Form | None:
    """Return a Dense layer for the product of a tensor and a matrix."""
    takes, shape = call.args[0], graph.shape(weight)
    rank = len(graph.shape(takes))
    if takes == weight or len(shape) != 2 or rank < 2:
        return None
    if type(call.op).__name__ == "Tensordot" and not _is_last_by_first(call.op.axes, rank):
        return None
    units = int(shape[1] or 0)

    def make(use_bias: bool, **options: Any) -> Any:
        return kl.Dense(units, use_bias=use_bias, **options)

    return _Form(("Dense", units), takes, make, units=units)


def _is_last_by_first(axes: Any, rank: int) -> bool:
    """Return whether the last axis of a tensor is summed over with the first of a matrix."""
    if axes == 1:
        return True
    flat = tree.flatten(axes)
    return len(flat) == 2 and flat[0] % rank == rank - 1 and flat[1] % 2 == 0


def _einsum(graph: Graph, call: Call, weight: Ref) -> _Form | None:
    """Return an EinsumDense layer for an einsum of a tensor and a weight."""
    if "->" not in call.op.subscripts:
        return None
    first, second, result = letters_of(call.op.subscripts)
    takes, letters, kernel = call.args[0], first, second
    if takes == weight:
        takes, letters, kernel = call.args[1], second, first
    equation = f"{letters},{kernel}->{result}"
    shape = graph.shape(call.outputs[0])
    if not result or not letters.startswith(result[0]):
        return None
    if not is_product(equation) or len(shape) < 2:
        return None

    def make(use_bias: bool, **options: Any) -> Any:
        return kl.EinsumDense(equation, shape[1:], **options)

    return _Form(("EinsumDense", equation, shape), takes, make)


def _convolution(graph: Graph, call: Call, weight: Ref) -> _Form | None:
    """Return a convolution layer for a convolution with a weight."""
    takes, shape = call.args[0], graph.shape(weight)
    kinds = {3: kl.Conv1D, 4: kl.Conv2D, 5: kl.Conv3D}
    if takes == weight or len(shape) not in kinds:
        return None
    filters = int(shape[-1] or 0)
    config = {
        "filters": filters,
        "kernel_size": shape[:-2],
        "strides": call.op.strides,
        "padding": call.op.padding,
        "data_format": call.op.data_format,
        "dilation_rate": call.op.dilation_rate,
    }

    def make(use_bias: bool, **options: Any) -> Any:
        return kinds[len(shape)](use_bias=use_bias, **config, **options)

    channels_last = call.op.data_format != "channels_first"
    return _Form(str(config), takes, make, units=filters if channels_last else 0)


def _lookup(graph: Graph, call: Call, weight: Ref) -> _Form | None:
    """Return an Embedding for reading rows of a table."""
    table, rows = call.args
    shape = graph.shape(weight)
    if table != weight or len(shape) != 2 or call.op.axis != 0:
        return None
    if not graph.values[rows.index].dtype.startswith("int"):
        return None

    def make(use_bias: bool, **options: Any) -> Any:
        return kl.Embedding(*shape, **options)

    return _Form("Embedding", rows, make, store_table)


_FORMS = {
    "Matmul": _product,
    "Dot": _product,
    "Tensordot": _product,
    "Einsum": _einsum,
    "Conv": _convolution,
    "Take": _lookup,
}
