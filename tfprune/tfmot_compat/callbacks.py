"""The callbacks of tensorflow-model-optimization, for models of both generations of Keras."""

from typing import Any

from tfprune.keras_support.models import is_tf_keras
from tfprune.sparsity.callbacks import MaskSummaries, MaskUpdates
from tfprune.tfmot_compat import adapter


class UpdatePruningStep(MaskUpdates):
    """Updates the masks on the schedule, by the number of steps the optimizer has done.

    It must be among the callbacks of `fit` when a model is pruned on a schedule, after those that
    set weights when training ends, as EarlyStopping may. In a custom training loop, call
    `set_model(model)`, `on_train_begin()`, `on_train_batch_begin(batch)` before every step or
    `on_train_batch_end(batch)` after it, `on_epoch_end(epoch)`, and `on_train_end()`;
    `model.optimizer` must be the optimizer in use. If the model has no trainable weights, batches
    are counted instead of steps. A model from `prune_low_magnitude` that is loaded in
    `prune_scope` continues; any other has no masks: call `prune` again after loading, and the
    schedule resumes at its step.

    Warns:
        ScheduleWarning: Before the first epoch, if the training is too short for a schedule or a
            mask was replaced; at the end, if the schedule is unfinished, or pruned weights were
            changed.

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
        if is_tf_keras(model):
            forward_hooks(self, adapter.update_pruning_step(), model)
        else:
            restore_hooks(self)
            super().set_model(model)


class PruningSummaries(MaskSummaries):
    """A TensorBoard callback that also writes, for every held kernel, its sparsity and threshold.

    Args:
        log_dir: The folder that TensorBoard reads.
        update_freq: As in `keras.callbacks.TensorBoard`.
        **kwargs: Further arguments of `keras.callbacks.TensorBoard`.
    """

    def __init__(self, log_dir: str, update_freq: str | int = "epoch", **kwargs: Any) -> None:
        super().__init__(log_dir, update_freq, **kwargs)
        self._options = {"update_freq": update_freq, **kwargs}

    def set_model(self, model: Any) -> None:
        if is_tf_keras(model):
            forward_hooks(self, adapter.pruning_summaries(self.log_dir, **self._options), model)
        else:
            restore_hooks(self)
            super().set_model(model)


def forward_hooks(callback: Any, peer: Any, model: Any) -> None:
    """Forward the hooks of a tfprune callback to a `tf_keras` callback."""
    for name in dir(peer):
        if name.startswith("on_") or name in _FORWARDED:
            setattr(callback, name, getattr(peer, name))
    peer.set_model(model)


def restore_hooks(callback: Any) -> None:
    """Undo `forward_hooks`."""
    for name in [name for name in vars(callback) if name.startswith("on_") or name in _FORWARDED]:
        delattr(callback, name)


# What tf_keras uses of a callback besides its hooks. `set_model` is not forwarded: it tells the
# generations apart, so that one callback can be used with models of both.
_FORWARDED = (
    "set_params",
    "_implements_train_batch_hooks",
    "_implements_test_batch_hooks",
    "_implements_predict_batch_hooks",
    "_supports_tf_logs",
)
