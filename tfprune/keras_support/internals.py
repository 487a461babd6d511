"""The private parts of Keras that the package uses, which may change in any release.

No other module uses a private attribute of Keras or a module below `keras.src`, except
`attention_steps` and `trainer_internals`, so a new release affects only these. Each part names
what it reads, and the releases in which that was seen. "3.10 on" means each from 3.10 to 3.15 and
the nightly build of 3.16. Functions that also accept objects of tf_keras (Keras 2) say so.
"""

import contextlib
import re
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
from keras.src.backend.tensorflow import math as _math
from keras.src.backend.tensorflow import numpy as _numpy
from keras.src.models.functional import Functional as Functional  # keras.Model(inputs, outputs)
from keras.src.ops import numpy as _operations
from keras.src.trainers.compile_utils import CompileLoss as CompileLoss  # of `compile(loss=…)`
from keras.src.utils.naming import to_snake_case as to_snake_case

AddOperation = _operations.Add  # what `x + y` makes
fourier_transforms = _math  # the module of `fft` and `fft2`
backend_numpy = _numpy  # the module of `zeros_like`


def tensor_of_sizes(sizes: Sequence[int | None], dtype: Any = "float32") -> Any:
    """Return a symbolic tensor with just these sizes, which may be of a subclass of int.

    3.10 on: `KerasTensor._shape`. 3.10 itself refuses a subclass of int as a size.
    """
    tensor = keras.KerasTensor([None if size is None else int(size) for size in sizes], dtype)
    tensor._shape = tuple(sizes)
    return tensor


def set_input_shape(layer: Any, shape: tuple[int | None, ...]) -> None:
    """Set the input shape of a layer, without the batch, for a Sequential that begins with it.

    3.10 on: `Layer._input_shape_arg`, which the argument `input_shape` of layers sets.
    """
    layer._input_shape_arg = shape


def input_shape_of(layer: Any) -> tuple[int | None, ...] | None:
    """Return the input shape that a layer was given, without the batch; None if it was not.

    3.10 on: `Layer._input_shape_arg`.
    """
    return getattr(layer, "_input_shape_arg", None)


def note_dense(tensor: Any, *inputs: Any) -> Any:
    """Return the output of an operation, marked as not sparse if no input is.

    3.10 on: `KerasTensor._sparse`, which is wrong for the product of a tensor and a number; layers
    that read it are then asked for their output with a sparse tensor, and fail.
    """
    if isinstance(tensor, keras.KerasTensor) and not any(
        isinstance(one, keras.KerasTensor) and one.sparse for one in inputs
    ):
        tensor._sparse = False
    return tensor


def is_keras_operation(kind: type) -> bool:
    """Return whether a class is a Keras operation that is not a layer, such as that of `x + y`.

    3.10 on: they are in modules below `keras.src.ops`, and those that only `keras.activations`
    makes below `keras.src.activations`.
    """
    return kind.__module__.startswith(("keras.src.ops.", "keras.src.activations."))


# Graphs. 3.10 on: `Sequential._functional`, `Function._inputs_struct`, `._outputs_struct` and
# `._nodes_by_depth`, `Operation._inbound_nodes` and `._outbound_nodes`, and on a KerasTensor
# `_keras_history` with `operation`. tf_keras: the same names of nodes and histories, where a
# history has `layer` for `operation`; `_nested_inputs`, `_nested_outputs`.


def graph_inside(sequential: Any) -> Any:
    """Return the functional model inside a built Sequential; None for all others."""
    return getattr(sequential, "_functional", None)


def symbolic_inputs_of(model: Any) -> Any:
    """Return the symbolic inputs of a functional model or Sequential, in their structure."""
    function = graph_inside(model) or model
    old = hasattr(function, "_nested_inputs")
    return function._nested_inputs if old else function._inputs_struct


def symbolic_outputs_of(model: Any) -> Any:
    """Return the symbolic outputs of a functional model or Sequential, in their structure."""
    function = graph_inside(model) or model
    old = hasattr(function, "_nested_outputs")
    return function._nested_outputs if old else function._outputs_struct


def nodes_in_order(function: Any) -> Iterator[Any]:
    """Yield the calls in a functional model, each after those it depends on."""
    for depth in sorted(function._nodes_by_depth, reverse=True):
        yield from function._nodes_by_depth[depth]


def maker_of(tensor: Any) -> Any:
    """Return the layer or operation that made a symbolic tensor, also of tf_keras."""
    history = tensor._keras_history
    return history.layer if hasattr(history, "layer") else history.operation


def inputs_of_maker(tensor: Any) -> Sequence[Any]:
    """Return the symbolic tensors that a symbolic tensor was made from, in that call."""
    history = tensor._keras_history
    return history.operation._inbound_nodes[history.node_index].input_tensors


def place_among_outputs(tensor: Any) -> int:
    """Return the place of a symbolic tensor among those that its maker returned."""
    return int(tensor._keras_history.tensor_index)


def note_calls(layers: Sequence[Any]) -> Callable[[], None]:
    """Record the calls that layers have now, and return a function that removes later ones."""
    before = [(one, len(one._inbound_nodes), len(one._outbound_nodes)) for one in layers]

    def forget() -> None:
        for layer, inbound, outbound in before:
            del layer._inbound_nodes[inbound:]
            del layer._outbound_nodes[outbound:]

    return forget


# Files whose lines depend on sizes and types of tensors. 3.10 on.
_RUNNING = re.compile(
    r"[\\/](tensorflow[\\/]python|keras[\\/]src[\\/](backend|utils))[\\/]"
    r"|[\\/]keras[\\/]src[\\/](layers[\\/]layer|ops[\\/]operation)\.py$"
)


def runs_layers(path: str) -> bool:
    """Return whether a file of TensorFlow or Keras runs all layers, and says nothing of one."""
    return _RUNNING.search(path) is not None


# Layers. 3.10 on: `Layer._flatten_layers` (tf_keras too), `._trainable_variables`,
# `._non_trainable_variables`, `._seed_generators`, `._call_has_training_arg`, `._tracker`,
# `._build_shapes_dict`, `Sequential._layers`, `Lambda._output_shape`.
# 3.11 on: `Layer._call_context_args`.


def all_layers(layer: Any) -> list[Any]:
    """Return a layer or model and all layers in it, at any depth, also of tf_keras."""
    return list(layer._flatten_layers(include_self=True, recursive=True))


def layers_below(layer: Any) -> list[Any]:
    """Return all layers in a layer or model, at any depth, without itself."""
    return list(layer._flatten_layers(include_self=False, recursive=True))


def direct_layers(layer: Any) -> list[Any]:
    """Return the direct sublayers of a layer or model, also of tf_keras."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def operations_in_config(model: Any) -> list[Any]:
    """Return the operations of a functional model or Sequential in the order of its config.

    `layers` of a Sequential omits its input layer.
    """
    sequential = isinstance(model, keras.Sequential)
    return list(model._layers if sequential else model.operations)


def own_attributes(layer: Any) -> dict[str, Any]:
    """Return the attributes of a layer, without those in which it lists its weights and layers.

    The lists of Keras are named below; TensorFlow's begin with `_self_`.
    """
    lists = ("_trainable_variables", "_non_trainable_variables", "_layers")
    return {
        name: value
        for name, value in vars(layer).items()
        if name not in lists and not name.startswith("_self_")
    }


def own_trainable(layer: Any) -> list[Any]:
    """Return the trainable weights of a layer itself, without those of sublayers."""
    return list(layer._trainable_variables)


def own_fixed(layer: Any) -> list[Any]:
    """Return the non-trainable weights of a layer itself, without those of sublayers."""
    return list(layer._non_trainable_variables)


def own_variables(layer: Any) -> list[Any]:
    """Return the weights of a layer itself, without those of sublayers."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def own_seed_generators(layer: Any) -> list[Any]:
    """Return the seed generators of a layer itself."""
    return list(layer._seed_generators)


def takes_training(operation: Any) -> bool:
    """Return whether the `call` of a layer has a `training` argument; False for an operation."""
    return bool(getattr(operation, "_call_has_training_arg", False))


def context_arguments(operation: Any) -> Sequence[str]:
    """Return the arguments of `call` that a layer passes to its sublayers, such as `training`."""
    return tuple(getattr(operation, "_call_context_args", ()))


def built_shapes(layer: Any) -> Mapping[str, Any]:
    """Return the shapes that a layer was built with, by the names of its arguments."""
    return getattr(layer, "_build_shapes_dict", None) or {}


def output_shape_given(layer: Any) -> Any:
    """Return the `output_shape` that a Lambda was made with."""
    return layer._output_shape


@contextlib.contextmanager
def unlocked(layer: Any) -> Iterator[None]:
    """Allow adding weights to a built layer while entered."""
    layer._tracker.unlock()
    try:
        yield
    finally:
        layer._tracker.lock()


def arguments_of(operation: Any) -> dict[str, Any]:
    """Return the arguments that an operation was made with; {} if one is not a plain value.

    3.10 on: `Operation._auto_config`.
    """
    recorded = getattr(operation, "_auto_config", None)
    return {} if recorded is None else dict(recorded.config)


# Where layers keep the weight behind a property. 3.10 on: `_kernel` of Dense, EinsumDense and the
# convolutions but DepthwiseConv, which sets `kernel`; `Embedding._embeddings`.


def stored_kernel(layer: Any) -> Any:
    """Return the variable behind the property `kernel` of a layer."""
    return layer._kernel


def store_kernel(layer: Any, variable: Any) -> None:
    """Store a variable as the kernel of a layer, for `stored_kernel`."""
    layer._kernel = variable


def stored_table(embedding: Any) -> Any:
    """Return the variable behind the property `embeddings` of an Embedding."""
    return embedding._embeddings


def store_table(embedding: Any, variable: Any) -> None:
    """Store a variable as the table of an Embedding, for `stored_table`."""
    embedding._embeddings = variable


# Variables. 3.10 on: `KerasVariable._autocast`; for a variable created in a
# `keras.StatelessScope`, `KerasVariable._value` is None and `._initializer` makes the value later.


def is_autocast(variable: Any) -> bool:
    """Return whether a variable is cast to the compute dtype of the layer that reads it."""
    return bool(variable._autocast)


def begin_with(variable: Any, array: np.ndarray) -> bool:
    """Set the initial value of a variable; return False if it already has a value."""
    if variable._value is not None:
        return False
    variable._initializer = partial(_given, array)
    return True


def _given(array: np.ndarray, shape: Any, dtype: Any = None) -> Any:
    """Return an array as a tensor, with the arguments of an initializer."""
    return keras.ops.convert_to_tensor(array, dtype=dtype)


# Masks. 3.10 on: `keras.src.backend.common.masking`, and `Layer._set_mask_metadata`. Up to 3.15 the
# functions stood in `keras.src.backend` too.


def mask_of(tensor: Any) -> Any:
    """Return the mask that Keras attaches to a tensor, or None, also of tf_keras."""
    return get_keras_mask(tensor)


def with_mask(tensor: Any, mask: Any) -> Any:
    """Attach a mask, if it is one, to a tensor, and return that."""
    if mask is not None:
        set_keras_mask(tensor, mask)
    return tensor


def copy_mask(source: Any, tensor: Any) -> Any:
    """Attach the mask of one tensor, if it has one, to another, and return that."""
    return with_mask(tensor, get_keras_mask(source))


def pass_mask(layer: Any, inputs: Any, outputs: Any) -> None:
    """Attach to outputs the masks that a layer called on these inputs would attach."""
    masks = tree.map_structure(get_keras_mask, inputs)
    if any(mask is not None for mask in tree.flatten(masks)):
        layer._set_mask_metadata(inputs, outputs, masks)


# Compiling. 3.10 on: `Model._compile_config.config`, `Optimizer._learning_rate`.


def compile_config(model: Any) -> dict[str, Any]:
    """Return the arguments that a model was compiled with, as objects; {} if it was not."""
    stored = getattr(model, "_compile_config", None)
    return dict(stored.config) if stored else {}


def learning_rate_of(optimizer: Any) -> Any:
    """Return the learning rate of an optimizer, which may be a schedule, or None."""
    return getattr(optimizer, "_learning_rate", None)


# Optimizers. 3.10 on: `Optimizer._iterations`, `._model_variables_moving_average` and
# `._get_variable_index`, and a stack of name scopes, each with its `caller`.


def counted_batches(optimizer: Any) -> Any:
    """Return the counter of an optimizer's batches, several of which may make one update."""
    return getattr(optimizer, "_iterations", optimizer.iterations)


def optimizer_at_work() -> Any:
    """Return the optimizer that is currently updating variables, or None."""
    scopes = global_state.get_global_attribute("name_scope_stack") or []
    callers = (scope.caller for scope in reversed(scopes))
    return next((one for one in callers if isinstance(one, keras.optimizers.Optimizer)), None)


def kept_average(optimizer: Any, variable: Any) -> Any:
    """Return the average that an optimizer keeps of a variable, or None."""
    if not optimizer.use_ema:
        return None
    averages = optimizer._model_variables_moving_average
    return averages[optimizer._get_variable_index(variable)]
