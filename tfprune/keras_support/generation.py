"""Telling the generations of Keras apart, without importing either."""

from typing import Any


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
