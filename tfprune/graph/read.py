"""Reading a model as a flat list of calls of primitive operations.

Nested models, composite layers and subclassed models are all unrolled, so that later code handles
one kind of graph. `model.layers` omits operations such as `x + y`; the nodes include them.
"""

import inspect
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
from keras import tree

from tfprune.errors import ModelError, type_name
from tfprune.graph.absorb_weights import absorb_weights
from tfprune.graph.graph import Call, Graph, Ref, Value
from tfprune.graph.inputs import check_shapes, symbolic_inputs
from tfprune.graph.tracing.masks import MaskOf, WithMask, passes_mask
from tfprune.graph.tracing.own_weights import WeightLayers
from tfprune.graph.tracing.symbolic_calls import accepted
from tfprune.graph.tracing.trace import (
    ONE_AT_A_TIME,
    Trace,
    asks_training,
    can_trace,
    same_in_training,
    why_not_part,
)
from tfprune.graph.tracing.weight import Weight
from tfprune.keras_support.internals import (
    Functional,
    context_arguments,
    direct_layers,
    graph_inside,
    maker_of,
    mask_of,
    nodes_in_order,
    symbolic_inputs_of,
    symbolic_outputs_of,
    with_mask,
)

Leaf = Callable[[Any], bool]


def is_function(op: object) -> bool:
    """Return whether an operation is a functional or sequential model, also of tf_keras.

    One that overrides `call` is not: what it computes may be something else than its graph.
    """
    for base in type(op).__mro__:
        of_keras = base.__module__.partition(".")[0] in ("keras", "tf_keras")
        if of_keras and base.__name__ in ("Sequential", "Functional"):
            return bool(type(op).call is base.call)  # type: ignore[attr-defined]
    return False


def read(model: Any, is_leaf: Leaf, *, input_shape: Any = None) -> Graph:
    """Flatten a model into calls of operations for which `is_leaf` holds.

    An operation that is neither a leaf nor a graph is traced through its `call`; if it cannot be
    traced, it remains a single call, and a note says why.

    Args:
        model: A built Keras 3 model: sequential, functional or subclassed.
        is_leaf: Returns whether an operation must not be unrolled.
        input_shape: The shape of the input without the batch, or a structure of such shapes, for
            a subclassed model that was not called yet.

    Raises:
        ModelError: The model is not a Keras 3 model, is not built, or cannot be traced.
        OptionError: `input_shape` is not valid for the model.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(
            f"expected a keras.Model of Keras {keras.__version__}. Received {type_name(model)}. "
            "Convert a tf_keras model with tfprune.to_keras3(model)"
        )
    if input_shape is not None:
        check_shapes(input_shape, [tensor.shape for tensor in getattr(model, "inputs", None) or ()])
    with ONE_AT_A_TIME:
        reader = _ModelReader(is_leaf)
        graph = reader.read(model, input_shape)
        shared = reader.read_elsewhere()
        if shared:
            reader = _ModelReader(is_leaf, shared)
            graph = reader.read(model, input_shape)
        reader.note_reads()
        reader.notes += reader.untrained
    return absorb_weights(graph)


def read_function(function: Any, is_leaf: Leaf = lambda op: not is_function(op)) -> Graph:
    """Flatten a `keras.Function`, functional or sequential model and the models nested in it.

    Layers stay whole, so nothing is traced.
    """
    return _ModelReader(is_leaf).calls_of(function)


class _ModelReader:
    """Reads a model once.

    Args:
        is_leaf: Returns whether an operation must not be unrolled.
        opened: The `id`s of leaves that are unrolled nevertheless, since other layers read their
            weights.
    """

    def __init__(self, is_leaf: Leaf, opened: Container[int] = ()) -> None:
        self.is_leaf = is_leaf
        self.opened = opened
        self.weights: WeightLayers = {}
        self.reads: list[tuple[str, Any, Any]] = []
        self.anchor: Any = None
        self.values: list[Value] = []
        self.calls: list[Call] = []
        self.notes: list[str] = []
        self.traced: list[str] = []
        self.untrained: list[str] = []
        self.nested: list[tuple[Any, Ref]] = []

    def read(self, model: Any, input_shape: Any) -> Graph:
        if isinstance(model, keras.Sequential) and not model.built:
            raise ModelError(
                f"model {model.name!r} is not built: begin it with keras.Input, "
                "or call model.build(input_shape)"
            )
        function, trace = model, None
        if not is_function(model):
            starts = symbolic_inputs(model, input_shape)
            flat = tree.flatten(starts)
            differs = asks_training(model) and not same_in_training(model, flat, (starts,), {})
            trace = Trace(model, starts, (starts,), {}, self.weights, self.opened)
            function = trace.function
            self.traced.append(model.name)
            self._note_training(model.name, differs)
            self._keep_reads(model.name, trace)
            self.notes.append(
                f"{model.name} ({type_name(model)}) is subclassed: traced into a functional model"
            )
        elif type(model) not in (Functional, keras.Sequential):
            self.notes.append(
                f"{model.name} ({type_name(model)}) becomes a plain functional model without its "
                "own class and methods"
            )
        try:
            return self.calls_of(function, model)
        finally:
            if trace is not None:
                trace.forget()

    def calls_of(self, function: Any, model: Any = None) -> Graph:
        """Return the graph of a function, which is that of a model."""
        inside = graph_inside(function) or function
        refs = {id(tensor): self._value(tensor) for tensor in inside.inputs}
        layers = [maker_of(tensor) for tensor in inside.inputs]
        self.anchor = refs[id(inside.inputs[0])]
        self._walk(inside, refs, "", {}, plain=isinstance(function, keras.Sequential))
        made = [tensor for node in nodes_in_order(inside) for tensor in node.outputs]
        masks = {refs[id(one)]: refs.get(id(mask_of(one))) for one in made}
        return Graph(
            model or function,
            tree.map_structure(lambda t: refs[id(t)], symbolic_inputs_of(inside)),
            tree.map_structure(lambda t: refs[id(t)], symbolic_outputs_of(inside)),
            layers,
            self.values,
            self.calls,
            self.notes,
            self.traced,
            self.untrained,
            self.nested,
            masks,
        )

    def _note_training(self, name: str, differs: bool) -> None:
        if differs:
            self.untrained.append(
                f"{name} computes something else in training: the new model does not, it computes "
                "the same in training as in inference"
            )

    def _keep_reads(self, name: str, trace: Trace) -> None:
        self.reads += [(name, layer, weight) for layer, weight in trace.reads]

    def read_elsewhere(self) -> set[int]:
        """Return the `id`s of layers whose weights other layers read, which can be unrolled."""
        found = {id(layer) for _, layer, _ in self.reads}
        leaves = {id(call.op): call.op for call in self.calls}
        for key, op in leaves.items():
            weights = getattr(op, "weights", ()) if type(op) is not Weight else ()
            if any(id(weight) in self.weights for weight in weights):
                found.add(key)
        return found

    def note_reads(self) -> None:
        """Note the weights that were read as constants."""
        for name, layer, weight in self.reads:
            self.notes.append(
                f"{name} reads {layer.name}.{weight.name} outside the call of its layer: it "
                "becomes a constant, which is not cut, counted or trained with that layer"
            )

    def _value(self, tensor: Any) -> Ref:
        mask = mask_of(tensor)
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        shape = None if mask is None else tuple(mask.shape)
        self.values.append(Value(tuple(tensor.shape), dtype, shape))
        return Ref(len(self.values) - 1)

    def _walk(
        self, function: Any, refs: dict[int, Ref], path: str, context: Mapping, plain: bool = False
    ) -> None:
        """Add the calls of a graph; `refs` maps its tensors and is filled on the way.

        The graph inside a Sequential is `plain`: the `training` argument that Keras traced it
        with is dropped, since the user did not choose it.
        """

        def known(leaf: Any) -> Any:
            return refs[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf

        for node in nodes_in_order(function):
            if node.is_input or all(id(t) in refs for t in node.outputs):
                continue
            args = tree.map_structure(known, node.arguments.args)
            kwargs = tree.map_structure(known, dict(node.arguments.kwargs))
            if plain:
                kwargs.pop("training", None)
            for name, value in context.items():
                if value is not None and name in context_arguments(node.operation):
                    kwargs[name] = value
            self._call(node.operation, args, kwargs, node.outputs, refs, path)

    def _call(
        self, op: Any, args: Any, kwargs: Any, outputs: Sequence[Any], refs: dict, path: str
    ) -> None:
        here = f"{path}{op.name}"
        if path and type(op) is keras.layers.Identity and isinstance((*args, None)[0], Ref):
            # Inside another layer it is a placeholder, often without a config.
            refs[id(outputs[0])] = args[0]
            return
        if type(op) is Weight:
            self._weight(op, outputs[0], refs, here)
            return
        if id(op) in self.opened and not is_function(op):
            if self._trace(op, args, kwargs, outputs, refs, here):
                return
        elif not self.is_leaf(op):
            if is_function(op):
                self._open(op, args, kwargs, outputs, refs, here)
                return
            if self._trace(op, args, kwargs, outputs, refs, here):
                return
        if not args and isinstance(op, keras.Layer):
            # Rules expect the first tensor as the first positional argument.
            first = next(iter(inspect.signature(op.call).parameters), None)
            if first in kwargs:
                args = (kwargs.pop(first),)
        made = tuple(self._value(tensor) for tensor in outputs)
        self._pass_mask(op, args, made)
        refs.update((id(tensor), ref) for tensor, ref in zip(outputs, made, strict=True))
        self.calls.append(Call(op, tuple(args), kwargs, made, here))

    def _pass_mask(self, op: Any, args: Sequence[Any], made: Sequence[Ref]) -> None:
        """Note the mask of a layer's input for its output, where Keras passes it on.

        The graph inside a model does not show it: the model was built on inputs without masks.
        """
        first = next(iter(args), None)
        mask = self.values[first.index].mask if isinstance(first, Ref) else None
        if mask is None or len(made) != 1 or not passes_mask(op):
            return
        value = self.values[made[0].index]
        self.values[made[0].index] = replace(value, mask=value.mask or mask)

    def _add(self, op: Any, args: tuple[Any, ...], output: Any, here: str) -> Ref:
        """Add a call of one output, which is like a symbolic tensor."""
        made = self._value(output)
        self.calls.append(Call(op, args, {}, (made,), here))
        return made

    def _weight(self, op: Weight, output: Any, refs: dict, here: str) -> None:
        """Add a layer that gives a weight, once, or refer to the call that is there."""
        known = [call for call in self.calls if call.op is op]
        made = known[0].outputs[0] if known else self._value(output)
        refs[id(output)] = made
        if not known:
            self.calls.append(Call(op, (self.anchor,), {}, (made,), here))

    def _open(
        self, op: Any, args: Any, kwargs: Any, outputs: Sequence[Any], refs: dict, here: str
    ) -> None:
        given = args[0] if args else kwargs["inputs"]
        sequential = isinstance(op, keras.Sequential)
        function = graph_inside(op) if sequential else op
        struct = symbolic_inputs_of(function)
        if isinstance(given, Mapping) and isinstance(struct, Mapping):
            flat = [ref for key in sorted(struct) for ref in tree.flatten(given[key])]
            inner = [tensor for key in sorted(struct) for tensor in tree.flatten(struct[key])]
        else:
            flat, inner = tree.flatten(given), tree.flatten(struct)
        given_to = list(zip(inner, flat, strict=True))
        local = {id(tensor): ref for tensor, ref in given_to}
        self.nested += [(maker_of(tensor), ref) for tensor, ref in given_to]
        context = {"training": kwargs.get("training")}
        self._walk(function, local, f"{here}/", context, plain=sequential)
        made = [local[id(tensor)] for tensor in tree.flatten(symbolic_outputs_of(function))]
        refs.update((id(tensor), ref) for tensor, ref in zip(outputs, made, strict=True))

    def _trace(
        self, op: Any, args: Any, kwargs: Any, outputs: Sequence[Any], refs: dict, here: str
    ) -> bool:
        """Unroll a composite layer, or add a note that says why not and return False."""
        if not can_trace(op) and id(op) not in self.opened:
            return False
        why = self._unroll(op, args, accepted(op, kwargs), outputs, refs, here)
        if why is not None:
            self.notes.append(f"{here} ({type_name(op)}) kept whole: {why}")
        return why is None

    def _unroll(
        self, op: Any, args: Any, kwargs: Any, outputs: Sequence[Any], refs: dict, here: str
    ) -> str | None:
        """Add the calls in a layer's `call`, or add nothing and return the reason."""
        starts: dict[Ref, Any] = {}
        masks: dict[Ref, Any] = {}
        for leaf in tree.flatten((args, kwargs)):
            if isinstance(leaf, Ref) and leaf not in starts:
                value = self.values[leaf.index]
                starts[leaf] = keras.Input(batch_shape=value.shape, dtype=value.dtype)
                if value.mask is not None:
                    masks[leaf] = keras.Input(batch_shape=value.mask, dtype="bool")
                    with_mask(starts[leaf], masks[leaf])

        def given(leaf: Any) -> Any:
            return starts[leaf] if isinstance(leaf, Ref) else leaf

        flat = [*starts.values(), *masks.values()]
        symbols = tree.map_structure(given, (args, kwargs))
        try:
            trace = Trace(op, flat, symbols[0], symbols[1], self.weights, self.opened, masked=True)
            differs = asks_training(op) and not same_in_training(op, flat, *symbols)
            if differs and not direct_layers(op):
                trace.forget()
                return "it computes something else in training"
        except Exception as error:  # noqa: BLE001 — user code may raise anything
            return f"its call cannot be traced ({type(error).__name__}: {_first_line(error)})"
        try:
            local = {id(start): ref for ref, start in starts.items()}
            made = trace.outputs
            if len(made) != len(outputs):
                return "its traced call has another number of outputs"
            lists: list[list[Any]] = [
                self.values,
                self.calls,
                self.notes,
                self.traced,
                self.untrained,
            ]
            before = [len(one) for one in lists]
            for ref, mask in masks.items():
                if trace.reads_input(mask):
                    local[id(mask)] = self._add(
                        MaskOf(len(mask.shape)), (ref,), mask, f"{here}/mask"
                    )
            self._walk(trace.function, local, f"{here}/", {})
            for call in self.calls[before[1] :]:
                why = why_not_part(call)
                if why is not None:
                    for one, count in zip(lists, before, strict=True):
                        del one[count:]
                    return why
            self.traced.append(here)
            self._note_training(here, differs)
            self._keep_reads(here, trace)
            for outer, inner, mask in zip(outputs, made, trace.masks, strict=True):
                found = local.get(id(inner))
                if mask is not None:
                    both = [found, local[id(mask)]]
                    masked = with_mask(keras.KerasTensor(inner.shape, inner.dtype), mask)
                    found = self._add(WithMask(), (both,), masked, f"{here}/masked")
                refs[id(outer)] = found
        finally:
            trace.forget()
        return None


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:160]
