"""The private parts of Keras that training uses; see `internals`."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import tree
from keras.src.backend.common import global_state
from keras.src.backend.tensorflow import trainer
from keras.src.random.seed_generator import global_seed_generator
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

from tfprune.keras_support.internals import all_layers, maker_of, own_seed_generators
from tfprune.keras_support.thread_replacements import replaced


def seed_states_of(model: Any) -> list[Any]:
    """Return the variables that random layers draw from, and that of draws without a seed."""
    own = [one for layer in all_layers(model) for one in own_seed_generators(layer)]
    return [one.state for one in [*own, global_seed_generator()]]


def set_all_seeds(seed: int) -> None:
    """Seed Python, NumPy, TensorFlow and Keras, also its generator for draws without a seed.

    3.10 on: the attribute `global_seed_generator` of `global_state`, which
    `keras.utils.set_random_seed` leaves where earlier draws brought it.
    """
    keras.utils.set_random_seed(seed)
    global_state.set_global_attribute("global_seed_generator", None)


def batches_of_arrays(given: tuple[Any, ...], size: int, class_weight: Any = None) -> Any:
    """Return the `tf.data.Dataset` of shuffled batches that `fit` makes of x, y and weights.

    3.10 on: `ArrayDataAdapter`.
    """
    made = ArrayDataAdapter(*given, batch_size=size, shuffle=True, class_weight=class_weight)
    return made.get_tf_dataset()


@contextlib.contextmanager
def in_precision(model: Any, precision: str | None) -> Iterator[None]:
    """Let a compiled model compute in another precision, but for its outputs, while entered.

    None: as it does. Losses are scaled as `compile` does for a model made in `mixed_float16`.
    """
    if precision is None:
        yield
        return
    outputs = {id(maker_of(tensor)) for tensor in tree.flatten(model.outputs)}
    layers = [layer for layer in all_layers(model) if id(layer) not in outputs]
    before = [layer.dtype_policy for layer in layers]
    optimizer = model.optimizer
    try:
        for layer in layers:
            layer.dtype_policy = precision
        if precision == "mixed_float16":
            model.optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.train_function = model.test_function = None
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy
        model.optimizer = optimizer
        model.train_function = model.test_function = None


def begin_at_first_epoch(model: Any) -> None:
    """Let `fit` begin at epoch 0 again after `BackupAndRestore`, which sets another for good.

    3.10 on: `Trainer._initial_epoch`.
    """
    model._initial_epoch = None


@contextlib.contextmanager
def several_workers(strategy: Any) -> Iterator[None]:
    """Let `fit` run on the workers of a `MultiWorkerMirroredStrategy` while entered.

    3.10 on (keras-team/keras, issue 20585): `Trainer._maybe_symbolic_build` reduces the first
    batch, and `reduce_per_replica` the scalars of each step, in ways that this strategy refuses.
    """

    def build(plain: Callable[..., Any]) -> Callable[..., Any]:
        def from_local(model: Any, iterator: Any = None, data_batch: Any = None) -> Any:
            if data_batch is None:
                batch = next(iter(iterator))[2]
                data_batch = tree.map_structure(
                    lambda value: strategy.experimental_local_results(value)[0], next(batch)
                )
            return plain(model, data_batch=data_batch)

        return from_local

    def reduce(plain: Callable[..., Any]) -> Callable[..., Any]:
        def over_workers(values: Any, of: Any, reduction: str) -> Any:
            if of is not strategy or reduction not in ("auto", "mean"):
                return plain(values, of, reduction)
            return tree.map_structure(lambda v: strategy.reduce("MEAN", v, axis=None), values)

        return over_workers

    with (
        replaced(trainer.TensorFlowTrainer, "_maybe_symbolic_build", build),
        replaced(trainer, "reduce_per_replica", reduce),
    ):
        yield
