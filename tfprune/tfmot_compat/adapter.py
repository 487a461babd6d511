"""Using tensorflow-model-optimization for `tf_keras` models; the only module that imports it.

Importing it sets an environment variable and, if `tf.keras` has not been accessed yet, turns
`tf.keras` into `tf_keras` for the whole process. This module prevents both.
"""

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator
from typing import Any

from tfprune.errors import ModelError, OptionError, ScheduleWarning, type_name
from tfprune.keras_support.models import is_tfmot
from tfprune.sparsity.choices.schedules import (
    ConstantSparsity,
    Geometric,
    OneShot,
    PolynomialDecay,
    PruningSchedule,
)
from tfprune.sparsity.tfmot_schedules import schedule_from_tfmot, subclasses
from tfprune.tfmot_compat.policies import PrunableLayer, PruneForLatencyOnXNNPack
from tfprune.utils.extras import require

_SWITCH = "TF_USE_LEGACY_KERAS"


def sparsity_api() -> Any:
    """Return `tfmot.sparsity.keras`."""
    return toolkit().sparsity.keras


@functools.cache
def toolkit() -> Any:
    """Import tensorflow-model-optimization without changing `tf.keras` or the environment."""
    require("a tf_keras model", "tf-keras", "tensorflow_model_optimization", "tf_keras")
    import tensorflow as tf

    # An attribute access resolves TensorFlow's lazy loader before the variable is set.
    _ = tf.keras.layers
    before = os.environ.get(_SWITCH)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "distutils Version classes", DeprecationWarning)
            import tensorflow_model_optimization as tfmot
    finally:
        if before is None:
            os.environ.pop(_SWITCH, None)
        else:
            os.environ[_SWITCH] = before
    # RNN cells are looked at with isinstance.
    tfmot.sparsity.keras.PrunableLayer.register(PrunableLayer)
    return tfmot


def prune_low_magnitude(
    to_prune: Any, *, pruning_schedule: Any, pruning_policy: Any, **options: Any
) -> Any:
    """Prune a `tf_keras` model, layer or list with tensorflow-model-optimization."""
    return sparsity_api().prune_low_magnitude(
        to_prune,
        pruning_schedule=schedule_to_tfmot(pruning_schedule),
        pruning_policy=_policy_to_tfmot(pruning_policy),
        **options,
    )


def strip_pruning(model: Any) -> Any:
    """Return a `tf_keras` model without its wrappers, after applying its masks a last time.

    tensorflow-model-optimization's own function does not apply the masks: pruned weights that the
    last steps changed would remain nonzero.

    Raises:
        ModelError: If it is not a Sequential or functional model.
    """
    import tf_keras

    # A subclassed model is Functional when it was made by `tf_keras.Model(inputs, outputs)`.
    if not isinstance(model, tf_keras.Sequential) and not getattr(
        model, "_is_graph_network", False
    ):
        raise ModelError(
            "strip_pruning: expected a Sequential or functional model of tf_keras. "
            f"Received {type_name(model)}. Rebuild it as one, or use Keras 3"
        )
    wrapped = wrapped_layers(model)
    idle = [w.layer.name for w in wrapped if w.pruning_vars and not _has_fired(w)]
    if idle:
        warnings.warn(
            f"strip_pruning: {', '.join(idle)} was never pruned: the schedule never fired. "
            "Make its frequency or begin_step smaller, or train longer",
            ScheduleWarning,
            stacklevel=3,
        )
    _apply_masks(wrapped)
    return sparsity_api().strip_pruning(model)


def _apply_masks(wrapped: list[Any]) -> list[str]:
    """Set masked weights to zero; return the layers in which some were not."""
    changed = []
    for wrapper in wrapped:
        for weight, mask, _ in wrapper.pruning_vars:
            if (weight.numpy()[mask.numpy() == 0] != 0).any():
                weight.assign(weight * mask)
                changed.append(wrapper.layer.name)
    return changed


def _has_fired(wrapper: Any) -> bool:
    # A mask update also sets the threshold, which is initially zero.
    return any(
        float(threshold.numpy()) != 0 or not bool(mask.numpy().all())
        for _, mask, threshold in wrapper.pruning_vars
    )


def wrapped_layers(model: Any) -> list[Any]:
    """Return the wrappers in a model, also those inside custom layers and models."""
    wrapper = type_of_wrapper()
    return [layer for layer in model.submodules if isinstance(layer, wrapper)]


def type_of_wrapper() -> type:
    """Return tensorflow-model-optimization's wrapper class."""
    sparsity_api()
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper

    wrapper: type = pruning_wrapper.PruneLowMagnitude
    return wrapper


def update_pruning_step() -> Any:
    """Return tensorflow-model-optimization's callback, extended to find every wrapper.

    The original searches only `model.layers` and fails for nested wrappers; it does not report
    that there are none, or that the training is too short for the schedule; and it does not apply
    the masks to weights that are changed when training ends.
    """
    return _callback_type()()


@functools.cache
def _callback_type() -> type:
    class UpdatePruningStep(sparsity_api().UpdatePruningStep):  # type: ignore[misc]
        params: dict[str, Any] | None = None  # a custom training loop sets none

        def on_train_begin(self, logs: Any = None) -> None:
            self.prunable_layers = wrapped_layers(self.model)
            if not self.prunable_layers:
                raise ModelError(
                    f"UpdatePruningStep: nothing of the model {self.model.name!r} is pruned; call "
                    "prune_low_magnitude() on it first, or remove the callback"
                )
            unbuilt = [w.layer.name for w in self.prunable_layers if not w.built]
            if unbuilt:
                raise ModelError(
                    f"UpdatePruningStep: {', '.join(unbuilt)} of the model {self.model.name!r} "
                    "has no weights yet; build the model first: call it on a batch"
                )
            for wrapper in self.prunable_layers:
                if _step_of(wrapper) == -1:
                    wrapper.pruning_step.assign(0)
            params = self.params or {}
            steps, epochs = params.get("steps") or 0, params.get("epochs") or 0
            self._short = bool(steps * epochs) and self._warn_if_short(steps * epochs)

        def on_epoch_end(self, epoch: Any = None, logs: Any = None, *, batch: Any = None) -> None:
            super().on_epoch_end(epoch if batch is None else batch, logs)

        def on_train_end(self, logs: Any = None) -> None:
            changed = _apply_masks(self.prunable_layers)
            if not self._short:  # it may have been stopped early
                self._warn_if_short(0)
            # An optimizer with `use_ema` assigns its averages after the last epoch.
            if changed and not getattr(self.model.optimizer, "use_ema", False):
                warnings.warn(
                    f"UpdatePruningStep: set pruned weights of {', '.join(changed)} back to zero, "
                    "which something other than the optimizer had changed when training ended "
                    "(restored weights): evaluate the model again",
                    ScheduleWarning,
                    stacklevel=2,
                )

        def _warn_if_short(self, further: int) -> bool:
            messages = {
                _shortfall(w.pruning_schedule, _step_of(w) + further)
                for w in self.prunable_layers
                if w.pruning_vars and not w.sparsity_m_by_n
            }
            for message in sorted(messages - {""}):
                warnings.warn(f"UpdatePruningStep: {message}", ScheduleWarning, stacklevel=2)
            return bool(messages - {""})

    return UpdatePruningStep


def _step_of(wrapper: Any) -> int:
    return int(wrapper.pruning_step.numpy())  # int() refuses variables of several replicas


def _shortfall(schedule: Any, last: int) -> str:
    """Return a warning if a schedule will not finish by a wrapper's step, or ""."""
    ours: Any = schedule
    shown = ""
    if isinstance(schedule, _from_zero_type()):
        ours, due = schedule.schedule, schedule.schedule.last_due(last - 1)
    elif is_tfmot(schedule) and type(schedule).__name__ in _COUNTERPARTS:  # loaded from a file
        ours = schedule_from_tfmot(schedule)
        end = last if ours.end_step < 0 else min(last, ours.end_step)
        due = end - (end - ours.begin_step) % ours.frequency if end >= ours.begin_step else None
        due = due or None  # wrappers count from 1
        shown = " Its masks are updated only every `frequency` steps."
    elif isinstance(schedule, PruningSchedule):
        due = schedule.last_due(last) or None
    else:
        return ""
    reached, final = (float(ours(due)[1]) if due is not None else 0.0), ours.final()
    if due is not None and (final is None or reached >= final):
        return ""
    word = "never fires" if due is None else f"ends at {reached:.3g} of {final:.3g}"
    return f"{ours} {word}: this training ends at step {last}.{shown} Make frequency smaller."


def pruning_summaries(log_dir: str, **options: Any) -> Any:
    """Return tensorflow-model-optimization's own TensorBoard callback."""
    return sparsity_api().PruningSummaries(log_dir, **options)


@contextlib.contextmanager
def prune_scope() -> Iterator[None]:
    """Enter the scope in which files of wrapped `tf_keras` models can be loaded.

    Custom schedules are found by the name of their class.
    """
    import tf_keras

    api = sparsity_api()
    kinds = {kind.__name__: kind for kind in subclasses(api.PruningSchedule)}
    kinds |= {kind.__name__: _loader(kind) for kind in subclasses(PruningSchedule)}
    own = {name: kind for name, kind in kinds.items() if name not in _COUNTERPARTS}
    with tf_keras.utils.custom_object_scope(own), api.prune_scope():
        yield


def _loader(kind: Any) -> Any:
    """Return a class whose `from_config` loads a tfprune schedule for a `tf_keras` wrapper."""

    class Loader:
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            return schedule_to_tfmot(kind.from_config(config))

    return Loader


_COUNTERPARTS = {kind.__name__: kind for kind in (PolynomialDecay, ConstantSparsity)}
_FROM_ZERO = (OneShot, Geometric)


def schedule_to_tfmot(schedule: Any) -> Any:
    """Return a schedule that wrappers can call: the given one, if they count steps alike.

    Raises:
        OptionError: If it is not a schedule of either package.
    """
    if isinstance(schedule, _FROM_ZERO):
        return _from_zero_type()(schedule)
    if not isinstance(schedule, PruningSchedule | sparsity_api().PruningSchedule):
        raise OptionError(
            f"pruning schedule: expected a tfprune.PruningSchedule. Received {type_name(schedule)}."
        )
    return schedule


@functools.cache
def _from_zero_type() -> Any:
    import numpy as np
    import tensorflow as tf

    class FromZero(sparsity_api().PruningSchedule):  # type: ignore[misc]
        """A schedule that only tfprune has. Wrappers count their first step as 1."""

        def __init__(self, schedule: PruningSchedule) -> None:
            self.schedule = schedule

        def __call__(self, step: Any) -> tuple[Any, Any]:
            def evaluate(number: Any) -> tuple[Any, Any]:
                due, sparsity = self.schedule(int(number) - 1)
                return np.bool_(due), np.float32(sparsity)

            due, sparsity = tf.numpy_function(evaluate, [step], [tf.bool, tf.float32])
            due.set_shape(())
            sparsity.set_shape(())
            return due, sparsity

        def get_config(self) -> dict[str, Any]:
            return self.schedule.get_config()

    return FromZero


def _policy_to_tfmot(policy: Any) -> Any:
    if isinstance(policy, PruneForLatencyOnXNNPack):
        return sparsity_api().PruneForLatencyOnXNNPack()
    return policy
