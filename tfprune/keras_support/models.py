"""The generation of a Keras model, whether Keras quantized it, its compilation and its state."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tfprune.errors import ModelError, type_name
from tfprune.keras_support.internals import (
    all_layers,
    arguments_of,
    compile_config,
    learning_rate_of,
)
from tfprune.storage.scratch import scratch_folder


def is_tf_keras(value: Any) -> bool:
    """Return whether a model, a layer, or the first of a list of layers is of `tf_keras`."""
    if isinstance(value, (list, tuple)):
        return bool(value) and is_tf_keras(value[0])
    return _comes_from(value, "tf_keras")


def is_tfmot(value: Any) -> bool:
    """Return whether an object's class is from tensorflow-model-optimization."""
    return _comes_from(value, "tensorflow_model_optimization")


def _comes_from(value: Any, package: str) -> bool:
    return any(kind.__module__.partition(".")[0] == package for kind in type(value).__mro__)


def refuse_quantized(*roots: Any) -> None:
    """Raise for models and layers, of either generation, whose weights Keras has quantized.

    Raises:
        ModelError: Keras's own `quantize` has been called on one, or on a layer in it.
    """
    for root in roots:
        for layer in all_layers(root):
            mode = getattr(layer, "quantization_mode", None)
            if mode:
                raise ModelError(
                    f"layer {layer.name!r} ({type_name(layer)}) was quantized to {mode} by Keras, "
                    "and its weights are not those of a float model: pass the model from before "
                    "quantize(), and quantize the file: to_tflite(model, scheme='int8')"
                )


@contextlib.contextmanager
def uncompiled(model: Any) -> Iterator[None]:
    """Remove the optimizer of a model for the length of a `with` block."""
    if not getattr(model, "compiled", False):
        yield
        return
    optimizer = model.optimizer
    model.compiled, model.optimizer = False, None
    try:
        yield
    finally:
        model.compiled, model.optimizer = True, optimizer


def compile_options(model: Any) -> dict[str, Any]:
    """Return the arguments that a model was compiled with, as objects; {} if it was not."""
    return compile_config(model) if getattr(model, "compiled", False) else {}


def carry_compile(model: Any, copy: Any) -> None:
    """Compile a copy like the original, with a new optimizer and new metrics.

    Raises:
        ModelError: The optimizer or a metric cannot be rebuilt from its config.
    """
    compile_like(model)(copy)


def compile_like(model: Any) -> Callable[[Any], None]:
    """Return a function that compiles a copy like the model, to check this before long work.

    Raises:
        ModelError: The optimizer or a metric cannot be rebuilt from its config.
    """
    options = compile_options(model)
    if not options:
        return lambda copy: None
    options["optimizer"] = _rebuilt(model.optimizer)
    for kind in ("metrics", "weighted_metrics"):
        options[kind] = keras.tree.map_structure(
            lambda one: _rebuilt(one) if isinstance(one, keras.Metric) else one, options[kind]
        )

    def apply(copy: Any) -> None:
        copy.compile(**options)
        if copy.built:
            copy.optimizer.build(copy.trainable_variables)

    return apply


def _rebuilt(thing: Any) -> Any:
    try:
        config = thing.get_config()
        rate = learning_rate_of(thing)
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            config["learning_rate"] = rate
        return type(thing).from_config(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ModelError(
            f"{type_name(thing)}, which the model is compiled with, cannot be rebuilt from its "
            f"config: {str(error).strip().splitlines()[0]}; implement get_config(), or compile "
            "the model afterwards"
        ) from error


def config_of(operation: Any) -> dict[str, Any]:
    """Return the config of an operation, with regularizers that have none in it.

    Scripts write them without `get_config`, which only saving needs.
    """
    base = keras.regularizers.Regularizer
    without = {
        key: value
        for key, value in vars(operation).items()
        if isinstance(value, base) and type(value).get_config is base.get_config
    }
    try:
        for key in without:
            setattr(operation, key, None)
        return {**operation.get_config(), **{k.lstrip("_"): v for k, v in without.items()}}
    finally:
        for key, value in without.items():
            setattr(operation, key, value)


def from_config(operation: Any, config: dict[str, Any], kind: Any = None) -> Any:
    """Return an operation of the same class, or of another kind, made from a config.

    A `get_config` may omit an argument that the class requires, or give a weight that has replaced
    one: then it is taken from the arguments that the operation was made with.
    """
    given, kind = arguments_of(operation), kind or type(operation)
    config = {
        key: given.get(key, _number(value)) if isinstance(value, keras.Variable) else value
        for key, value in config.items()
    }
    try:
        return kind.from_config(dict(config))
    except (TypeError, ValueError):
        missing = {key: value for key, value in given.items() if key not in config}
        if not missing:
            raise
        return kind.from_config({**missing, **config})


def _number(variable: Any) -> Any:
    array = keras.ops.convert_to_numpy(variable)
    return array.item() if array.size == 1 else array


def settle(layer: Any, original: Any) -> None:
    """Copy the state of a layer that is not in its weights or config.

    Normalization computes with constants made from its weights, and the vocabulary of a lookup
    layer is in neither weights nor config.
    """
    for new, old in zip(*map(_with_state, (layer, original)), strict=True):
        if isinstance(new, keras.layers.Normalization):
            new.finalize_state()
        else:
            with scratch_folder() as folder:
                old.save_assets(str(folder))
                new.load_assets(str(folder))


def _with_state(layer: Any) -> list[Any]:
    lookups = keras.layers.StringLookup, keras.layers.IntegerLookup
    kinds = (keras.layers.Normalization, *lookups)
    return [one for one in all_layers(layer) if isinstance(one, kinds)]
