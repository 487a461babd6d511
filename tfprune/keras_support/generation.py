"""Which generation of Keras is this? Answered without importing either."""

from typing import Any


def is_tf_keras(value: Any) -> bool:
    """Say whether a model, a layer, or the first of a list of layers is of `tf_keras`."""
    if isinstance(value, (list, tuple)):
        return bool(value) and is_tf_keras(value[0])
    return _comes_from(value, "tf_keras")


def is_tfmot(value: Any) -> bool:
    """Say whether an object's class is tensorflow-model-optimization's."""
    return _comes_from(value, "tensorflow_model_optimization")


def _comes_from(value: Any, package: str) -> bool:
    return any(kind.__module__.partition(".")[0] == package for kind in type(value).__mro__)


def hand_over(callback: Any, peer: Any, model: Any) -> None:
    """Let a `tf_keras` callback do the work of one of ours from now on, on a `tf_keras` model."""
    for name in dir(peer):
        if name.startswith("on_") or name in _SPOKEN_FOR:
            setattr(callback, name, getattr(peer, name))
    peer.set_model(model)


def take_back(callback: Any) -> None:
    """Let a callback of ours do its own work again, after `hand_over`."""
    for name in [name for name in vars(callback) if name.startswith("on_") or name in _SPOKEN_FOR]:
        delattr(callback, name)


# What tf_keras asks a callback for, beside its hooks. `set_model` stays ours: it tells the
# generations apart, so that one callback can serve a model of each.
_SPOKEN_FOR = (
    "set_params",
    "_implements_train_batch_hooks",
    "_implements_test_batch_hooks",
    "_implements_predict_batch_hooks",
    "_supports_tf_logs",
)
