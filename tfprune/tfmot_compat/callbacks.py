"""tensorflow-model-optimization's callbacks, for models of both generations of Keras."""

from typing import Any

from tfprune.keras_support import generation
from tfprune.sparsity.callbacks import MaskSummaries, MaskUpdates
from tfprune.tfmot_compat import adapter


class UpdatePruningStep(MaskUpdates):
    """Updates the masks when the schedule says so, by the number of steps the optimizer has done.

    It has to be among the callbacks of `fit` when a model is pruned on a schedule; behind those
    that set weights when training ends, as EarlyStopping may. In a training loop of your own, call
    `set_model(model)`, `on_train_begin()`, `on_train_batch_end(batch)` after every step, and
    `on_train_end()`; `model.optimizer` has to be the optimizer in use. Where nothing of the model
    is trainable, batches are counted instead of steps. A saved model carries no masks: call
    `prune` again after loading, and the schedule goes on where it was.

    Warns:
        ScheduleWarning: Before the first epoch, if the training is too short for a schedule or
            something of the model is no longer held; at the end, if the schedule was cut short,
            or weights had been put back that are masked.

    Example:
        >>> import keras, numpy as np, tfprune
        >>> x, y = np.zeros((32, 8)), np.zeros((32, 1))
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        >>> model = tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0))
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(x, y, verbose=0, callbacks=[UpdatePruningStep()])
        >>> int(keras.ops.count_nonzero(model.layers[0].kernel))
        4
    """

    def set_model(self, model: Any) -> None:
        if generation.is_tf_keras(model):
            hand_over(self, adapter.update_pruning_step(), model)
        else:
            take_back(self)
            super().set_model(model)


class PruningSummaries(MaskSummaries):
    """A TensorBoard callback that also writes, for every held kernel, its sparsity and threshold.

    Args:
        log_dir: The folder that TensorBoard reads.
        update_freq: As in `keras.callbacks.TensorBoard`.
        **kwargs: Its further arguments.
    """

    def __init__(self, log_dir: str, update_freq: str | int = "epoch", **kwargs: Any) -> None:
        super().__init__(log_dir, update_freq, **kwargs)
        self._options = {"update_freq": update_freq, **kwargs}

    def set_model(self, model: Any) -> None:
        if generation.is_tf_keras(model):
            hand_over(self, adapter.pruning_summaries(self.log_dir, **self._options), model)
        else:
            take_back(self)
            super().set_model(model)


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
