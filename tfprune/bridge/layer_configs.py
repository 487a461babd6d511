"""Conversion of one layer to the other generation of Keras: the class of the same name, its config.

An option without a counterpart is an error that names the layer and the option, unless it has its
default value.
"""

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfprune.errors import ModelError, type_name
from tfprune.keras_support.models import is_tfmot

# The same option under another name: class -> {name in tf_keras: name in Keras 3}.
_RENAMED = {"LeakyReLU": {"alpha": "negative_slope"}}
# Options on how a layer is computed, seeded or built, without effect on the result.
_WITHOUT_EFFECT = {
    "batch_input_shape", "batch_shape", "build_config", "flash_attention", "implementation",
    "input_length", "key_shape", "query_shape", "rng_type", "seed", "value_shape",
}  # fmt: skip
# Options that tf_keras inherits from a parent although the layer has no such weight.
_IDLE = {
    f"Separable{name}": {"kernel_initializer", "kernel_regularizer", "kernel_constraint"}
    for name in ("Conv1D", "Conv2D")
}
# Functions with another name in the other generation.
_ACTIVATIONS = {"tf_keras": {"silu": "swish", "log_softmax": "log_softmax_v2"}, "keras": {}}
# The same name, another function: in tf_keras max(0, min(1, x/5 + 1/2)), in Keras 3 x/6 + 1/2.
_DIFFERENT_ACTIVATIONS = {"hard_sigmoid"}
# Layers of keras.applications, and the module that has them in both generations.
_OF_APPLICATIONS = {"LayerScale": "convnext", "StochasticDepth": "convnext"}
_KINDS = ("initializer", "regularizer", "constraint")


@dataclass(frozen=True)
class Side:
    """One generation of Keras: its package and its name."""

    api: Any
    name: str

    def find(self, name: str) -> Any:
        """Return this generation's own layer class of a name, or None."""
        if name in _OF_APPLICATIONS:
            module = f"{self.api.__name__}.src.applications.{_OF_APPLICATIONS[name]}"
            return getattr(importlib.import_module(module), name, None)
        return getattr(self.api.layers, name, None)

    def has(self, kind: type) -> bool:
        """Return whether a class is one of this generation's own layers, not a subclass of one."""
        return self.find(kind.__name__) is kind


Nested = Callable[[Any], Any]


def translate(layer: Any, source: Side, target: Side, nested: Nested) -> Any:
    """Return a new layer of the other generation with the same config, not built.

    `nested` converts the layer inside a wrapper.

    Raises:
        ModelError: The layer or an option of its config has no counterpart.
    """
    kind = _counterpart(layer, source, target)
    config = dict(layer.get_config())
    name = type(layer).__name__
    config = _renamed(name, config, source, target)
    config["dtype"] = _policy(layer, target)
    config["name"] = target_name(layer.name, target)
    for key in [key for key in config if key in _WITHOUT_EFFECT]:
        if key != "seed" or not _accepts(kind, "seed") or not isinstance(config[key], int):
            del config[key]
    if name == "Bidirectional":
        return _bidirectional(layer, kind, config, source, target, nested)
    if "layer" in config:
        config["layer"] = nested(layer.layer)
    if "cell" in config:
        config["cell"] = nested(layer.cell)
    if "cells" in config:
        config["cells"] = [nested(cell) for cell in layer.cells]
    final = {}
    for key, value in config.items():
        value = _plain(value)
        if key in _IDLE.get(name, ()):
            continue
        if not _accepts(kind, key) or (key == "zero_output_for_mask" and not value):
            if not _is_default(layer, key, value):
                raise ModelError(
                    f"layer {layer.name!r} ({type_name(layer)}): {target.name} has no counterpart "
                    f"of {key}={value!r}. Set it to its default, or replace the layer"
                )
            continue
        final[key] = _value(layer, key, value, target)
    try:
        return kind(**final)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"layer {layer.name!r} ({type_name(layer)}): {target.name} refuses its config: "
            f"{one_line(error)}"
        ) from error


def target_name(name: str, target: Side) -> str:
    """Return a name that is valid in the other generation: Keras 3 allows no slash."""
    return name.replace("/", "_") if target.name == "keras" else name


def one_line(error: BaseException) -> str:
    """Return the text of an exception without line breaks, shortened."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"


def _counterpart(layer: Any, source: Side, target: Side) -> Any:
    where = f"layer {layer.name!r} ({type_name(layer)})"
    name = type(layer).__name__
    if is_tfmot(layer):
        if name == "PruneLowMagnitude":
            raise ModelError(f"{where} is pruned: call tfprune.strip_pruning first")
        raise ModelError(
            f"{where} is a wrapper of tensorflow-model-optimization: strip it first "
            "(strip_clustering, or the model from before quantize_model)"
        )
    if name == "Lambda":
        raise ModelError(
            f"{where} contains Python code, which cannot be converted: replace it by a layer"
        )
    if not source.has(type(layer)):
        raise ModelError(
            f"{where} is not a built-in layer of {source.name}: replace it by built-in layers, or "
            f"write the class for {target.name} and rebuild the model there"
        )
    found = target.find(name)
    if found is None:
        raise ModelError(
            f"{where}: {target.name} has no layer {name}. Replace it by one that both have"
        )
    return found


def _renamed(name: str, config: dict[str, Any], source: Side, target: Side) -> dict[str, Any]:
    table = _RENAMED.get(name, {})
    if source.name == "keras":
        table = {new: old for old, new in table.items()}
    return {table.get(key, key): value for key, value in config.items()}


def _policy(layer: Any, target: Side) -> str:
    name = str(getattr(layer.dtype_policy, "name", type_name(layer.dtype_policy)))
    plain = name.removeprefix("mixed_")
    if plain not in ("float16", "bfloat16", "float32", "float64") and not plain.startswith(
        ("int", "uint", "bool", "string")
    ):
        raise ModelError(
            f"layer {layer.name!r} ({type_name(layer)}): its dtype policy {name} has no "
            f"counterpart in {target.name}"
        )
    return name


def _bidirectional(
    layer: Any, kind: Any, config: dict[str, Any], source: Side, target: Side, nested: Nested
) -> Any:
    parts = []
    for part, prefix in ((layer.forward_layer, "forward_"), (layer.backward_layer, "backward_")):
        # Both generations copy the given layers, add the prefix to the name, and set this option
        # themselves.
        new = translate(part, source, target, nested)
        new._name = new.name.removeprefix(prefix)
        new.zero_output_for_mask = False
        parts.append(new)
    kept = {key: config[key] for key in ("name", "dtype", "merge_mode", "trainable")}
    return kind(parts[0], backward_layer=parts[1], **kept)


def _signatures(kind: type) -> list[inspect.Signature]:
    found = []
    for parent in kind.__mro__:
        if "__init__" not in vars(parent) or parent is object:
            continue
        signature = inspect.signature(vars(parent)["__init__"])
        found.append(signature)
        if not any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
            break
    return found


def _accepts(kind: type, key: str) -> bool:
    # tf_keras takes these from **kwargs.
    return key in ("activity_regularizer", "zero_output_for_mask") or any(
        key in signature.parameters for signature in _signatures(kind)
    )


def _is_default(layer: Any, key: str, value: Any) -> bool:
    if value is None or (key == "data_format" and value == "channels_last"):
        return True
    for signature in _signatures(type(layer)):
        if key in signature.parameters:
            return bool(signature.parameters[key].default == value)
    # tf_keras takes some from **kwargs, without a default.
    return value is False


def _plain(value: Any) -> Any:
    """Return a config's value as plain Python types."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.ndim):
        return value.item()
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value)) if type(value) is tuple else list(map(_plain, value))
    return value


def _value(layer: Any, key: str, value: Any, target: Side) -> Any:
    if key.endswith("activation") and value is not None:
        return _activation(layer, key, value, target)
    for kind in _KINDS:
        if key.endswith(kind) and value is not None:
            return _object(layer, key, value, getattr(target.api, kind + "s"), target)
    if key == "axis" and type(layer).__name__ == "BatchNormalization":
        return value[0] if isinstance(value, list) and len(value) == 1 else value
    return value


def _activation(layer: Any, key: str, value: Any, target: Side) -> Any:
    where = f"layer {layer.name!r} ({type_name(layer)}): its {key}"
    if isinstance(value, dict):
        value = value["config"] if isinstance(value.get("config"), str) else value["class_name"]
    if value in _DIFFERENT_ACTIVATIONS:
        raise ModelError(
            f"{where} {value} is a different function in {target.name}; use one that is the same "
            "in both, such as sigmoid, and train again"
        )
    name = _ACTIVATIONS[target.name].get(value, value)
    found = getattr(target.api.activations, name, None)
    if found is None and target.name == "tf_keras" and name in ("relu6", "leaky_relu"):
        import tensorflow as tf

        found = getattr(tf.nn, name)
    if found is None:
        raise ModelError(
            f"{where} {value!r} has no counterpart in {target.name}: use a built-in one"
        )
    return found


def _object(layer: Any, key: str, value: Any, module: Any, target: Side) -> Any:
    """Return an initializer, regularizer or constraint of the other generation."""
    where = f"layer {layer.name!r} ({type_name(layer)}): its {key}"
    name, config = value["class_name"], value.get("config") or {}
    kind = getattr(module, name, None)
    if value.get("registered_name") or kind is None:
        raise ModelError(f"{where} {name} has no counterpart in {target.name}")
    given = {k: v for k, v in config.items() if v is not None and not isinstance(v, dict)}
    unknown = [k for k in given if not _accepts(kind, k)]
    if unknown:
        raise ModelError(f"{where} {name} has no {unknown[0]} in {target.name}")
    return kind(**given)
