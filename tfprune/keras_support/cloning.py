"""What a copy of a model needs beside the layers and weights of the original."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras

from tfprune.errors import ModelError, type_name
from tfprune.keras_support.internals import all_layers, compile_config, learning_rate_of
from tfprune.storage.scratch import scratch_folder


@contextlib.contextmanager
def uncompiled(model: Any) -> Iterator[None]:
    """Take the optimizer away from a model for the length of a `with` block."""
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
    """Return what a model was compiled with, as objects; nothing if it was not."""
    return compile_config(model) if getattr(model, "compiled", False) else {}


def carry_compile(model: Any, twin: Any) -> None:
    """Compile a copy as the original was; its optimizer and metrics start anew.

    Raises:
        ModelError: The optimizer or a metric cannot be made again from its config.
    """
    compile_like(model)(twin)


def compile_like(model: Any) -> Callable[[Any], None]:
    """Return what compiles a copy as a model is now: for copies that are long in the making.

    Raises:
        ModelError: The optimizer or a metric cannot be made again from its config.
    """
    options = compile_options(model)
    if not options:
        return lambda twin: None
    options["optimizer"] = _again(model.optimizer)
    for kind in ("metrics", "weighted_metrics"):
        options[kind] = keras.tree.map_structure(
            lambda one: _again(one) if isinstance(one, keras.Metric) else one, options[kind]
        )

    def apply(twin: Any) -> None:
        twin.compile(**options)
        if twin.built:
            twin.optimizer.build(twin.trainable_variables)

    return apply


def _again(thing: Any) -> Any:
    try:
        config = thing.get_config()
        rate = learning_rate_of(thing)
        if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            config["learning_rate"] = rate
        return type(thing).from_config(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ModelError(
            f"{type_name(thing)}, which the model is compiled with, cannot be made again from its "
            f"config: {str(error).strip().splitlines()[0]}; give it get_config(), or compile the "
            "model after this"
        ) from error


def settle(layer: Any, original: Any) -> None:
    """Let a layer that was given weights work with them, and take over what is no weight.

    Normalization computes with constants made of its weights; a vocabulary that a lookup layer
    has learned is in neither weights nor config.
    """
    for new, old in zip(all_layers(layer), all_layers(original), strict=False):
        if type(new) is not type(old):
            continue
        if isinstance(new, keras.layers.Normalization):
            new.finalize_state()
        elif isinstance(new, keras.layers.StringLookup | keras.layers.IntegerLookup):
            with scratch_folder() as folder:
                old.save_assets(str(folder))
                new.load_assets(str(folder))
