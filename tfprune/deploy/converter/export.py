"""Export of a Keras model of either generation as a SavedModel with named inputs and outputs."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfprune.deploy.converter.assigned_weights import check_assigned
from tfprune.deploy.converter.rewrites.draws import refuse_draws
from tfprune.deploy.converter.rewrites.graph import functions_of
from tfprune.graph.model_signature import Assigned, Interface, generation, kinds_of
from tfprune.keras_support.internals import all_layers
from tfprune.runtime.artifact import TensorSpec


def export(
    interface: Interface, folder: Path, *, batch: int | None, unroll: bool = False
) -> tuple[str, ...]:
    """Write a SavedModel and return the names of its outputs in the model's order.

    Args:
        interface: The model and its inputs.
        folder: Where to write.
        batch: The batch size to fix; None leaves it open.
        unroll: Unroll recurrent layers.

    Raises:
        ConversionError: The outputs depend on random numbers, or on earlier calls.
    """
    import tensorflow as tf

    specs = [
        tf.TensorSpec(
            [None if size == -1 else size for size in (_batch(spec, batch), *spec.shape[1:])],
            spec.dtype,
            name=spec.name,
        )
        for spec in interface.inputs
    ]
    names: list[str] = []
    private = _is_private(interface)
    assigned: Assigned = {}

    def serve(flat: Sequence[Any]) -> dict[str, Any]:
        arrays = {spec.name: x for spec, x in zip(interface.inputs, flat, strict=True)}
        outputs = called(interface, arrays, assigned)
        names[:] = outputs
        # An output that is an input or another output would lose its name in the file.
        return {name: tf.identity(value) for name, value in outputs.items()}

    module = tf.Module()
    if not private:
        module.kept = [
            getattr(v, "value", v) if not callable(getattr(v, "value", None)) else v
            for v in interface.model.variables
        ]
    with _unrolled(interface.model) if unroll else contextlib.nullcontext(), _quiet():
        function = tf.function(serve, input_signature=[specs], autograph=False)
        if private:
            function = _frozen(function, specs, names)
        tf.saved_model.save(module, str(folder), signatures={"serving_default": function})
    if assigned:
        check_assigned(interface, batch or 1)
    with functions_of(folder) as functions:
        refuse_draws(functions, interface.model.name, means=interface.mean_draws)
    return tuple(names)


def called(
    interface: Interface, arrays: Mapping[str, Any], assigned: Assigned | None = None
) -> dict[str, Any]:
    """Return a model's outputs by name, with operations named as in the file."""
    import tensorflow as tf

    outermost = tf.name_scope("model") if _is_private(interface) else contextlib.nullcontext()
    with _scopes_named_as_layers(tf.compat.v1.get_default_graph()), outermost:
        return interface.call(arrays, assigned)


@contextlib.contextmanager
def _scopes_named_as_layers(graph: Any) -> Iterator[None]:
    """Free the names of empty scopes, for a `with` block.

    Keras 3 opens the scope of a layer twice, to build and to call it. TensorFlow would number the
    second: the operations of `dense` would be in `dense_1`, those of `dense_1` in `dense_1_2`.
    """
    unique_name = graph.unique_name
    # Names given to scopes that are still empty.
    given: dict[str, str] = {}
    used: set[str] = set()

    def is_operation(name: str) -> bool:
        try:
            graph.get_operation_by_name(name)
        except KeyError:
            return False
        return True

    def name_once(name: str, mark_as_used: bool = True) -> str:
        scope = graph.get_name_scope()
        full = f"{scope}/{name}" if scope else name
        last = given.get(full, "")
        if last and last not in used and not is_operation(last):
            return last
        while scope:
            used.add(scope)
            scope = scope.rpartition("/")[0]
        unique = unique_name(name, mark_as_used)
        if mark_as_used:
            given[full] = unique
        return unique

    graph.unique_name = name_once
    try:
        yield
    finally:
        del graph.unique_name


def _is_private(interface: Interface) -> bool:
    # A class named _Net gives a model name that TensorFlow refuses as its outermost scope, of
    # operations and of saved variables.
    return interface.model.name.startswith("_")


def _frozen(function: Any, specs: Sequence[Any], names: Sequence[str]) -> Any:
    """Return the same function with constants instead of variables."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    constant = convert_variables_to_constants_v2(
        function.get_concrete_function(), lower_control_flow=False
    )

    def serve(flat: Sequence[Any]) -> dict[str, Any]:
        # The outputs of a dict are in the order of its sorted keys.
        outputs = constant(*flat)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        return dict(zip(sorted(names), outputs, strict=True))

    return tf.function(serve, input_signature=[specs], autograph=False)


def _batch(spec: TensorSpec, batch: int | None) -> int:
    return batch if batch is not None and spec.shape[0] == -1 else spec.shape[0]


@contextlib.contextmanager
def full_precision(model: Any) -> Iterator[bool]:
    """Make a mixed_float16 model compute in float32 for a `with` block.

    Half precision is for training on a GPU: the runtime has no float16 kernels and would cast back
    and forth. The variables are float32 already.

    Yields:
        Whether any layer computed in half precision.
    """
    before = (
        [
            (layer, layer.dtype_policy)
            for layer in all_layers(model)
            if getattr(layer, "compute_dtype", None) in ("float16", "bfloat16")
        ]
        if generation(model) == "keras"
        else []
    )
    try:
        for layer, _ in before:
            layer.dtype_policy = "float32"
        yield bool(before)
    finally:
        for layer, policy in before:
            layer.dtype_policy = policy


def recurrent_layers(model: Any) -> list[Any]:
    """Return the layers that loop over time."""
    return [
        layer for layer in all_layers(model) if kinds_of(layer) & {"RNN", "ConvRNN", "ConvLSTM"}
    ]


@contextlib.contextmanager
def _unrolled(model: Any) -> Iterator[None]:
    before = [
        (
            layer,
            {
                key: getattr(layer, key)
                for key in ("unroll", "_could_use_gpu_kernel")
                if hasattr(layer, key)
            },
        )
        for layer in recurrent_layers(model)
    ]
    try:
        for layer, values in before:
            layer.unroll = True
            if "_could_use_gpu_kernel" in values:  # tf_keras, whose kernel for GPUs loops too
                layer._could_use_gpu_kernel = False
        yield
    finally:
        for layer, values in before:
            for key, value in values.items():
                setattr(layer, key, value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence TensorFlow's logs: names that are not Python identifiers, folders written.

    In a notebook, its own logger prints each.
    """
    loggers = [logging.getLogger(name) for name in ("absl", "tensorflow")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
