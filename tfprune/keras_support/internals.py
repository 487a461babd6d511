"""What the package takes from inside of Keras. Keras promises none of it.

No other module names a private attribute of Keras or a module below `keras.src`, so a new release
is met here alone. Each part names what it reads, and the releases in which that was seen. "3.10 on"
means each from 3.10 to 3.15 and the nightly build of 3.16. What also takes the objects of tf_keras
(Keras 2) says so.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import tree

# Classes and functions without a public name. 3.10 on.
from keras.src.applications.convnext import LayerScale as LayerScale
from keras.src.applications.convnext import StochasticDepth as StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer as CustomScaleLayer
from keras.src.backend.common import KerasVariable as KerasVariable  # has `value` of all variables
from keras.src.backend.common import global_state
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask
from keras.src.backend.common.stateless_scope import in_stateless_scope as in_stateless_scope
from keras.src.models.functional import Functional as Functional  # keras.Model(inputs, outputs)
from keras.src.ops import numpy as _operations
from keras.src.trainers.compile_utils import CompileLoss as CompileLoss  # of `compile(loss=…)`
from keras.src.utils.naming import to_snake_case as to_snake_case

AddOperation = _operations.Add  # what `x + y` makes


def is_keras_operation(kind: type) -> bool:
    """Tell whether a class is an operation of Keras that is no layer, such as that of `x + y`.

    3.10 on: they stand in modules below `keras.src.ops`.
    """
    return kind.__module__.startswith("keras.src.ops.")


# Graphs. 3.10 on: `Sequential._functional`, `Function._inputs_struct`, `._outputs_struct` and
# `._nodes_by_depth`, `Operation._inbound_nodes` and `._outbound_nodes`, and on a KerasTensor
# `_keras_history` with `operation` and `node_index`. tf_keras: the same names of nodes and
# histories, where a history has `layer` for `operation`; `_nested_inputs`, `_nested_outputs`.


def graph_inside(sequential: Any) -> Any:
    """The functional model that a Sequential runs; None before it is built, and for all others."""
    return getattr(sequential, "_functional", None)


def symbolic_inputs_of(model: Any) -> Any:
    """The symbolic inputs of a functional model or a Sequential in the structure that it takes."""
    function = graph_inside(model) or model
    old = hasattr(function, "_nested_inputs")
    return function._nested_inputs if old else function._inputs_struct


def symbolic_outputs_of(model: Any) -> Any:
    """The symbolic outputs of a functional model or a Sequential in the structure that it gives."""
    function = graph_inside(model) or model
    old = hasattr(function, "_nested_outputs")
    return function._nested_outputs if old else function._outputs_struct


def nodes_in_order(function: Any) -> Iterator[Any]:
    """The calls in a functional model, each behind those it needs."""
    for depth in sorted(function._nodes_by_depth, reverse=True):
        yield from function._nodes_by_depth[depth]


def is_symbolic(tensor: Any) -> bool:
    """Tell whether a tensor was made by a call, in a graph of either generation."""
    return hasattr(tensor, "_keras_history")


def maker_of(tensor: Any) -> Any:
    """The layer or operation that made a symbolic tensor, tf_keras's too."""
    history = tensor._keras_history
    return history.layer if hasattr(history, "layer") else history.operation


def node_of(tensor: Any) -> Any:
    """The call that made a symbolic tensor, tf_keras's too."""
    return maker_of(tensor)._inbound_nodes[tensor._keras_history.node_index]


def calls_of(operation: Any) -> Sequence[Any]:
    """The calls of a layer or operation on symbolic tensors."""
    return tuple(operation._inbound_nodes)


def readers_of(operation: Any) -> Sequence[Any]:
    """The calls that read what a layer or operation gives, tf_keras's too."""
    return tuple(operation._outbound_nodes)


def note_calls(layers: Sequence[Any]) -> Callable[[], None]:
    """Note which calls layers have now; the function that is given takes off all later ones."""
    before = [(one, len(one._inbound_nodes), len(one._outbound_nodes)) for one in layers]

    def forget() -> None:
        for layer, inbound, outbound in before:
            del layer._inbound_nodes[inbound:]
            del layer._outbound_nodes[outbound:]

    return forget


# Layers. 3.10 on: `Layer._flatten_layers` (tf_keras too), `._trainable_variables`,
# `._non_trainable_variables`, `._seed_generators`, `._call_has_training_arg`, `._tracker`,
# `._build_shapes_dict`, `Sequential._layers`, `Lambda._output_shape`.
# 3.11 on: `Layer._call_context_args`.


def all_layers(layer: Any) -> list[Any]:
    """A layer or model and all layers in it, however deep, tf_keras's too."""
    return list(layer._flatten_layers(include_self=True, recursive=True))


def layers_below(layer: Any) -> list[Any]:
    """All layers in a layer or model, however deep, without itself."""
    return list(layer._flatten_layers(include_self=False, recursive=True))


def direct_layers(layer: Any) -> list[Any]:
    """The layers that a layer or model holds itself, without those in them, tf_keras's too."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def layers_and_input(sequential: Any) -> list[Any]:
    """The layers of a Sequential with its input layer, which `layers` leaves out."""
    return list(sequential._layers)


def own_trainable(layer: Any) -> list[Any]:
    """The weights of a layer itself that training changes, without those of layers in it."""
    return list(layer._trainable_variables)


def own_fixed(layer: Any) -> list[Any]:
    """The weights of a layer itself that training by gradients leaves alone."""
    return list(layer._non_trainable_variables)


def own_variables(layer: Any) -> list[Any]:
    """The weights of a layer itself, without those of layers in it."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def own_seed_generators(layer: Any) -> list[Any]:
    """What a layer itself draws its random numbers from."""
    return list(layer._seed_generators)


def takes_training(operation: Any) -> bool:
    """Tell whether the `call` of a layer takes `training`; False for an operation."""
    return bool(getattr(operation, "_call_has_training_arg", False))


def context_arguments(operation: Any) -> Sequence[str]:
    """The arguments of `call` that a layer hands on to the layers in it, such as `training`."""
    return tuple(getattr(operation, "_call_context_args", ()))


def built_shapes(layer: Any) -> Mapping[str, Any]:
    """The shapes that a layer was built with, by the names of its arguments."""
    return getattr(layer, "_build_shapes_dict", None) or {}


def output_shape_given(layer: Any) -> Any:
    """The `output_shape` that a Lambda was made with."""
    return layer._output_shape


@contextlib.contextmanager
def unlocked(layer: Any) -> Iterator[None]:
    """While it is entered, a built layer takes new weights."""
    layer._tracker.unlock()
    try:
        yield
    finally:
        layer._tracker.lock()


# Where layers keep the weight behind a property. 3.10 on: `_kernel` of Dense, EinsumDense and the
# convolutions but DepthwiseConv, which sets `kernel`; `Embedding._embeddings`.


def stored_kernel(layer: Any) -> Any:
    """The kernel of a layer as a variable, whatever its property `kernel` gives."""
    return layer._kernel


def store_kernel(layer: Any, variable: Any) -> None:
    """Let a layer keep a variable where `stored_kernel` finds it."""
    layer._kernel = variable


def stored_table(embedding: Any) -> Any:
    """The table of an Embedding as a variable, whatever its property `embeddings` gives."""
    return embedding._embeddings


# Variables. 3.10 on: `KerasVariable._value` is None and `._initializer` makes the value later where
# a variable is made in a `keras.StatelessScope`.


def begin_with(variable: Any, array: np.ndarray) -> bool:
    """Let a variable begin with an array. False: it has a value already, and is left as it is."""
    if variable._value is not None:
        return False
    variable._initializer = partial(_given, array)
    return True


def _given(array: np.ndarray, shape: Any, dtype: Any = None) -> Any:
    """An initializer that gives an array."""
    return keras.ops.convert_to_tensor(array, dtype=dtype)


# Masks. 3.10 on: `keras.src.backend.common.masking`, and `Layer._set_mask_metadata`. Up to 3.15 the
# functions stood in `keras.src.backend` too.


def mask_of(tensor: Any) -> Any:
    """The mask that Keras carries along with a tensor, or None, tf_keras's too."""
    return get_keras_mask(tensor)


def copy_mask(source: Any, tensor: Any) -> Any:
    """Give a tensor the mask of another, where that has one, and return it."""
    mask = get_keras_mask(source)
    if mask is not None:
        set_keras_mask(tensor, mask)
    return tensor


def pass_mask(layer: Any, inputs: Any, outputs: Any) -> None:
    """Give outputs the masks that a layer, called on these inputs, would give them."""
    masks = tree.map_structure(get_keras_mask, inputs)
    if any(mask is not None for mask in tree.flatten(masks)):
        layer._set_mask_metadata(inputs, outputs, masks)


# Compiling. 3.10 on: `Model._compile_config.config`, `Optimizer._learning_rate`.


def compile_config(model: Any) -> dict[str, Any]:
    """What a model was compiled with, as objects; nothing if it was not."""
    stored = getattr(model, "_compile_config", None)
    return dict(stored.config) if stored else {}


def learning_rate_of(optimizer: Any) -> Any:
    """The learning rate of an optimizer as it was given, a schedule too; None where it has none."""
    return getattr(optimizer, "_learning_rate", None)


# Optimizers. 3.10 on: `Optimizer._iterations`, `._model_variables_moving_average` and
# `._get_variable_index`, and a stack of name scopes, each of which knows who entered it.


def counted_batches(optimizer: Any) -> Any:
    """The counter of the batches an optimizer was given; it may gather several for an update."""
    return getattr(optimizer, "_iterations", optimizer.iterations)


def optimizer_at_work() -> Any:
    """The optimizer that is updating variables at present, or None."""
    scopes = global_state.get_global_attribute("name_scope_stack") or []
    callers = (scope.caller for scope in reversed(scopes))
    return next((one for one in callers if isinstance(one, keras.optimizers.Optimizer)), None)


def kept_average(optimizer: Any, variable: Any) -> Any:
    """The average that an optimizer keeps of a variable, or None where it keeps none."""
    if not optimizer.use_ema:
        return None
    averages = optimizer._model_variables_moving_average
    return averages[optimizer._get_variable_index(variable)]
