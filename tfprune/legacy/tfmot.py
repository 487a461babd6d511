"""tensorflow-model-optimization, for `tf_keras` models: the only module that imports it.

Importing it would set an environment variable and, where `tf.keras` has not been touched yet,
turn `tf.keras` into `tf_keras` for the whole process. Both are put right here.
"""

import functools
import os
from contextlib import AbstractContextManager
from typing import Any

from tfprune.errors import type_name
from tfprune.sparsity.policies import PruneForLatencyOnXNNPack
from tfprune.sparsity.schedules import ConstantSparsity, PolynomialDecay, PruningSchedule

_SWITCH = "TF_USE_LEGACY_KERAS"


@functools.cache
def sparsity_api() -> Any:
    """Return `tfmot.sparsity.keras`, imported so that `tf.keras` and the environment stay."""
    import tensorflow as tf

    # An attribute access makes TensorFlow's lazy loader decide now, before the switch is set.
    _ = tf.keras.layers
    before = os.environ.get(_SWITCH)
    try:
        import tensorflow_model_optimization as tfmot
    finally:
        if before is None:
            os.environ.pop(_SWITCH, None)
        else:
            os.environ[_SWITCH] = before
    return tfmot.sparsity.keras


def prune_low_magnitude(
    to_prune: Any, *, pruning_schedule: Any, pruning_policy: Any, **options: Any
) -> Any:
    """Hand a `tf_keras` model, layer or list to tensorflow-model-optimization."""
    return sparsity_api().prune_low_magnitude(
        to_prune,
        pruning_schedule=schedule_to_tfmot(pruning_schedule),
        pruning_policy=_policy_to_tfmot(pruning_policy),
        **options,
    )


def strip_pruning(model: Any) -> Any:
    """Return a `tf_keras` model without its wrappers, its masks applied a last time.

    tensorflow-model-optimization's own function leaves out the masks: weights that the last
    steps brought back would stay.
    """
    for layer in _wrapped_layers(model):
        for weight, mask, _ in layer.pruning_vars:
            weight.assign(weight * mask)
    return sparsity_api().strip_pruning(model)


def _wrapped_layers(model: Any) -> list[Any]:
    wrapper = type_of_wrapper()
    return [
        layer
        for layer in model.submodules
        if isinstance(layer, wrapper) and hasattr(layer, "pruning_vars")
    ]


def type_of_wrapper() -> type:
    """Return tensorflow-model-optimization's wrapper class."""
    sparsity_api()
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_wrapper

    wrapper: type = pruning_wrapper.PruneLowMagnitude
    return wrapper


def update_pruning_step() -> Any:
    """Return tensorflow-model-optimization's own callback."""
    return sparsity_api().UpdatePruningStep()


def pruning_summaries(log_dir: str, **options: Any) -> Any:
    """Return tensorflow-model-optimization's own TensorBoard callback."""
    return sparsity_api().PruningSummaries(log_dir, **options)


def prune_scope() -> AbstractContextManager[Any]:
    """Return the scope in which files of wrapped `tf_keras` models can be loaded.

    Files of Keras 3 models pruned by tfprune need none: they hold no custom objects.
    """
    scope: AbstractContextManager[Any] = sparsity_api().prune_scope()
    return scope


def schedule_to_tfmot(schedule: Any) -> Any:
    """Return a schedule that tensorflow-model-optimization takes."""
    api = sparsity_api()
    if isinstance(schedule, (PolynomialDecay, ConstantSparsity)):
        return getattr(api, type(schedule).__name__)(**schedule.get_config()["config"])
    if isinstance(schedule, PruningSchedule):
        return _adapted(schedule)
    return schedule


def schedule_from_tfmot(schedule: Any) -> PruningSchedule:
    """Return tfprune's counterpart of a schedule of tensorflow-model-optimization."""
    config = schedule.get_config()
    known = {cls.__name__: cls for cls in (PolynomialDecay, ConstantSparsity)}
    if type(schedule).__name__ in known and type(schedule).__module__.startswith(
        "tensorflow_model"
    ):
        return known[config["class_name"]](**config["config"])
    return _Evaluated(schedule)


class _Evaluated(PruningSchedule):
    """A user's subclass of tensorflow-model-optimization's schedule, its tensors read."""

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule

    def __call__(self, step: int) -> tuple[bool, float]:
        due, sparsity = self.schedule(step)
        return bool(due), float(sparsity)

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.schedule.get_config()
        return config

    def __repr__(self) -> str:
        return type_name(self.schedule)


def _adapted(schedule: PruningSchedule) -> Any:
    import numpy as np
    import tensorflow as tf

    class Adapted(sparsity_api().PruningSchedule):  # type: ignore[misc]
        """A tfprune schedule inside a tf_keras graph. Wrappers count their first step as 1."""

        def __call__(self, step: Any) -> tuple[Any, Any]:
            def evaluate(number: Any) -> tuple[Any, Any]:
                due, sparsity = schedule(int(number) - 1)
                return np.bool_(due), np.float32(sparsity)

            due, sparsity = tf.numpy_function(evaluate, [step], [tf.bool, tf.float32])
            due.set_shape(())
            sparsity.set_shape(())
            return due, sparsity

        def get_config(self) -> dict[str, Any]:
            return schedule.get_config()

    return Adapted()


def _policy_to_tfmot(policy: Any) -> Any:
    if isinstance(policy, PruneForLatencyOnXNNPack):
        return sparsity_api().PruneForLatencyOnXNNPack()
    return policy
