"""Conversion of a model to the other generation of Keras, verified on random input.

The graph is read call by call, every layer is rebuilt from its config, and the new layer is called
like the old one, so that shared layers, several inputs and outputs and nested models are kept. At
the end both models run on random input.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tfprune.bridge import functions
from tfprune.bridge.agreement import Comparison, check_sizes, verify
from tfprune.bridge.graphs import flatten, graph_of, is_operation, map_structure
from tfprune.bridge.layer_configs import Side, one_line, target_name, translate
from tfprune.bridge.pair_weights import pair_weights
from tfprune.errors import ModelError, type_name
from tfprune.graph.graph import Call, Graph, Ref, Value
from tfprune.graph.read import is_function
from tfprune.keras_support.models import refuse_quantized
from tfprune.sparsity.masks import holds_of
from tfprune.utils.extras import require

if TYPE_CHECKING:
    import keras
    import tf_keras

_logger = logging.getLogger(__name__)


def to_keras3(model: "tf_keras.Model") -> "keras.Model":
    """Convert a `tf_keras` model to Keras 3: same layers, names, weights and outputs.

    Optimizer, loss and metrics are not converted: compile the result.

    Args:
        model: A built Sequential or functional `tf_keras` model.

    Returns:
        A `keras.Sequential` or functional `keras.Model`. The given model is not changed.

    Raises:
        ModelError: A part of it has no counterpart, or the outputs of the two models differ on
            random input by more than 1e-5 of their scale; the message names the layer.

    Example:
        >>> import tf_keras
        >>> old = tf_keras.Sequential([tf_keras.layers.Input((4,)), tf_keras.layers.Dense(2)])
        >>> to_keras3(old).count_params()
        10
    """
    return _convert(model, "to_keras3", _tf_keras(), _keras())


def to_keras3_within(model: Any, most_elements: int) -> Any:
    """Convert as `to_keras3`, with a limit on the size of arrays when outputs are compared.

    Raises:
        ModelError: As for `to_keras3`; or a layer creates a larger array.
    """
    return _convert(model, "to_keras3", _tf_keras(), _keras(), most_elements)


def to_tf_keras(model: "keras.Model") -> "tf_keras.Model":
    """Convert a Keras 3 model to `tf_keras`: same layers, names, weights and outputs.

    Optimizer, loss and metrics are not converted: compile the result.

    Args:
        model: A built Sequential or functional Keras 3 model, not under pruning.

    Returns:
        A `tf_keras.Sequential` or functional `tf_keras.Model`. The given model is not changed.

    Raises:
        ModelError: As for `to_keras3`.

    Example:
        >>> import keras
        >>> to_tf_keras(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])).count_params()
        10
    """
    return _convert(model, "to_tf_keras", _keras(), _tf_keras())


def _keras() -> Side:
    import keras

    return Side(keras, "keras")


def _tf_keras() -> Side:
    require("a model of Keras 2", "tf-keras", "tf_keras")
    # By its own name: `tf.keras` depends on an environment variable.
    import tf_keras

    return Side(tf_keras, "tf_keras")


def _convert(
    model: Any, caller: str, source: Side, target: Side, most_elements: int | None = None
) -> Any:
    if not isinstance(model, source.api.Model):
        other = "to_tf_keras" if source.name == "tf_keras" else "to_keras3"
        hint = (
            f"; tfprune.{other} converts in the other direction"
            if isinstance(model, target.api.Model)
            else ""
        )
        raise ModelError(
            f"{caller}: expected a {source.name}.Model. Received {type_name(model)}{hint}"
        )
    if source.name == "keras":
        refuse_quantized(model)
        _refuse_pruned(model, caller)
    bridge = _Bridge(caller, source, target)
    with _one_line(caller, model):
        if most_elements is not None:
            for graph in bridge.graphs(model):
                check_sizes(graph, most_elements)
        result = bridge.model(model)
        bridge.copy_weights()
        verify(bridge.comparison(model, result))
    return result


@contextlib.contextmanager
def _one_line(caller: str, model: Any) -> Iterator[None]:
    """Convert errors of either generation for graphs it cannot read or run into one line."""
    import tensorflow as tf

    try:
        yield
    except ModelError as error:
        if str(error).startswith(caller):
            raise
        raise ModelError(_prefixed(caller, error)) from error
    except (*_OF_GRAPHS, tf.errors.OpError) as error:
        raise ModelError(
            f"{caller}: the model {model.name!r} cannot be converted: {type(error).__name__}:  "
            f"{one_line(error)}. Rebuild it from the layers of one Sequential or functional model"
        ) from error


# What Keras raises for malformed graphs; not memory errors and interrupts.
_OF_GRAPHS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError,
    RecursionError, TypeError, ValueError,
)  # fmt: skip


def _refuse_pruned(model: Any, caller: str) -> None:
    if holds_of(model):
        raise ModelError(
            f"{caller}: the model {model.name!r} is being pruned, and masks cannot be "
            "converted: call tfprune.strip_pruning first"
        )


class _Bridge:
    def __init__(self, caller: str, source: Side, target: Side) -> None:
        self.caller = caller
        self.source = source
        self.target = target
        # By the identity of the original layer; outer layers come before inner ones.
        self.made: dict[int, tuple[Any, Any]] = {}
        # By the identity of a functional model: its tensors and their counterparts.
        self.tensors: dict[int, list[tuple[Ref, Any, str]]] = {}

    # -- the graph ---------------------------------------------------------------------------

    def layer(self, layer: Any) -> Any:
        if id(layer) in self.made:
            return self.made[id(layer)][1]
        if isinstance(layer, self.source.api.Model):
            return self.model(layer)
        # The entry is made first, so that the outer layer comes before the inner ones.
        self.made[id(layer)] = (layer, None)
        try:
            new = translate(layer, self.source, self.target, self.layer)
        except ModelError as error:
            del self.made[id(layer)]
            raise ModelError(_prefixed(self.caller, error)) from error
        if new.name != layer.name and type(layer).__name__ != "Bidirectional":
            _logger.warning("%s: layer %r is now %r", self.caller, layer.name, new.name)
        self.made[id(layer)] = (layer, new)
        return new

    def model(self, model: Any) -> Any:
        if id(model) in self.made:
            return self.made[id(model)][1]
        graph = self._graph(model)
        self.made[id(model)] = (model, None)
        sequential = isinstance(model, self.source.api.Sequential)
        new = (self._sequential if sequential else self._functional)(model, graph)
        self.made[id(model)] = (model, new)
        return new

    def _graph(self, model: Any) -> Graph:
        where = f"{self.caller}: the model {model.name!r} ({type_name(model)})"
        sequential = isinstance(model, self.source.api.Sequential)
        if not is_function(model):
            raise ModelError(
                f"{where} overrides call(): rebuild it as a functional model"
                if sequential
                else f"{where} is subclassed: its layers are connected by Python code. Rebuild it "
                "as a functional model"
            )
        if sequential and not getattr(model, "inputs", None):
            raise ModelError(
                f"{where} is not built: begin it with an Input layer, or call "
                "model.build(input_shape)"
            )
        if type(model).__name__ not in ("Sequential", "Functional"):
            _logger.warning(
                "%s: %r is a %s; its graph is converted, its own methods are not",
                self.caller, model.name, type_name(model),
            )  # fmt: skip
        return graph_of(model, self.source)

    def _sequential(self, model: Any, graph: Graph) -> Any:
        (start,) = self._inputs(graph).values()
        layers = [start, *(self.layer(call.op) for call in graph.calls)]
        try:
            return self.target.api.Sequential(layers, name=target_name(model.name, self.target))
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"{self.caller}: the layers of {model.name!r} cannot be connected in "
                f"{self.target.name}: {one_line(error)}"
            ) from error

    def _inputs(self, graph: Graph) -> dict[int, Any]:
        """Return the new layer of each input, by the number of its tensor."""
        starts = graph.starts().items()
        return {number: self._input(layer, graph.values[number]) for number, layer in starts}

    def _input(self, layer: Any, value: Value) -> Any:
        config = layer.get_config()
        if config.get("ragged"):
            raise ModelError(f"{self.caller}: input {layer.name!r} is ragged; make it dense")
        name = "batch_input_shape" if self.target.name == "tf_keras" else "batch_shape"
        new = self.target.api.layers.InputLayer(
            **{name: value.shape},
            dtype=value.dtype,
            sparse=bool(config.get("sparse")),
            name=target_name(layer.name, self.target),
        )
        self.made[id(layer)] = (layer, new)
        return new

    def graphs(self, model: Any) -> Iterator[Graph]:
        """Yield the graphs of a model and of the models in it."""
        graph = self._graph(model)
        yield graph
        for call in graph.calls:
            if isinstance(call.op, self.source.api.Model):
                yield from self.graphs(call.op)

    def _functional(self, model: Any, graph: Graph) -> Any:
        known = {number: layer.output for number, layer in self._inputs(graph).items()}
        tensors = self.tensors[id(model)] = []
        for call in graph.calls:
            result = self._call(call, known)
            for ref, new in zip(call.outputs, flatten(result), strict=True):
                known[ref.index] = new
                tensors.append((ref, new, call.op.name))
        ends = (
            map_structure(lambda ref: known[ref.index], end)
            for end in (graph.inputs, graph.outputs)
        )
        return self.target.api.Model(*ends, name=target_name(model.name, self.target))

    def _call(self, call: Call, known: dict[int, Any]) -> Any:
        operation, options = call.op, call.kwargs

        def find(value: Any) -> Any:
            if isinstance(value, Ref):
                return known[value.index]
            return np.asarray(value) if hasattr(value, "numpy") else value

        if is_operation(operation, self.source):
            return self._answer(call, find)
        new = self.layer(operation)
        if "training" in options:
            _logger.warning(
                "%s: %r is called with training=%r, which tf_keras keeps while a model trains; "
                "Keras 3 overrides it in fit. Set trainable=False where it must stay",
                self.caller, operation.name, options["training"],
            )  # fmt: skip
        try:
            return new(*map_structure(find, call.args), **map_structure(find, options))
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"{self.caller}: layer {operation.name!r} ({type_name(operation)}) cannot be "
                f"called in {self.target.name} as it is in {self.source.name}: {one_line(error)}"
            ) from error

    def _answer(self, call: Call, find: Callable[[Any], Any]) -> Any:
        """Return the result of the other generation's function."""
        try:
            return functions.counterpart(call, self.source, find)
        except ModelError as error:
            raise ModelError(_prefixed(self.caller, error)) from error
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"{self.caller}: the function {call.op.name!r} cannot be called in "
                f"{self.target.name} as it is in {self.source.name}: {one_line(error)}"
            ) from error

    # -- the weights -------------------------------------------------------------------------

    def copy_weights(self) -> None:
        """Copy weights and `trainable` flags from the old layers to the new ones."""
        for old, new in self.made.values():
            if isinstance(old, self.source.api.Model):
                continue
            for theirs, ours in self._pairs(old, new):
                ours.assign(np.asarray(theirs))
            if type(old).__name__ == "Normalization":
                new.finalize_state()
        for old, new in self.made.values():
            if new.trainable != old.trainable:
                new.trainable = old.trainable

    def comparison(self, old: Any, new: Any) -> Comparison:
        """Return a model and its counterpart, with the tensors in between, to be compared."""
        graph, tensors = self._graph(old), self.tensors.get(id(old), [])
        return Comparison(old, new, self.source, self.target, graph, tensors, self.caller)

    def _pairs(self, old: Any, new: Any) -> list[tuple[Any, Any]]:
        try:
            return pair_weights(old, new)
        except ModelError as error:
            raise ModelError(_prefixed(self.caller, error)) from error


def _prefixed(caller: str, error: ModelError) -> str:
    text = str(error)
    return text if text.startswith(caller) else f"{caller}: {text}"
