"""Deterministic training on a task."""

import logging
import math
import re
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfprune.data.feed import Feed, packed
from tfprune.data.model_inputs import known_inputs
from tfprune.data.samples import Split
from tfprune.data.streams import Stream
from tfprune.errors import DataError, TfpruneError, TrainingError
from tfprune.pipeline.datasets import Dataset, Set, check_batch
from tfprune.pipeline.losses import losses_of
from tfprune.pipeline.models import output_shapes
from tfprune.sparsity.masks import prunings_of
from tfprune.utils.progress import Task

log = logging.getLogger("tfprune.run")

OTHER_LENGTH = re.compile(r"was expected to contain \d+ elements but contained [a-z ]*\d+")
"""What TensorFlow says of a dataset with another length than the one counted before."""


def compile_model(
    model: keras.Model, data: Dataset, optimizer: Any, learning_rate: float, steps: int
) -> None:
    """Compile a model for its task with a learning rate that falls to zero along a cosine.

    `optimizer` is a name, or an optimizer whose other options are kept.
    """
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    given = keras.optimizers.get(optimizer)
    options = {} if isinstance(optimizer, str) else given.get_config()
    made = type(given).from_config({**options, "learning_rate": rate})
    loss, weights, metrics = losses_of(model, data)
    model.compile(made, loss, loss_weights=weights, metrics=metrics)


def fit(
    model: keras.Model,
    data: Dataset,
    *,
    epochs: int,
    batch_size: int,
    task: Task,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict[str, list[float]]:
    """Train a compiled model and return its curves, one number per epoch.

    Streams keep their own batches and their order; memory-mapped arrays are shuffled by `seed`.

    Raises:
        TrainingError: The loss is not finite.
        DataError: A batch of a stream does not fit the model, or there are not as many as before.
    """
    takes, outputs = known_inputs(model), output_shapes(model, data)
    failed: list[TfpruneError] = []

    def check(batch: Split, name: str) -> None:
        check_batch(data, batch, takes, outputs, name, f"the model {model.name!r}")

    def given(split: Set, order: int | None) -> Any:
        split = data.targets(split)
        if isinstance(split, Stream):
            return Feed(split, takes, batch_size, check, order, failed).dataset()
        return Split(packed(split.x, takes, data.name), split.y, split.w).given

    train = given(data.train, seed)
    whole = isinstance(train, tuple)
    validation = given(data.validation, None) if data.validation else None
    try:
        history = model.fit(
            **dict(zip(("x", "y", "sample_weight"), train if whole else (train,), strict=False)),
            epochs=epochs,
            batch_size=batch_size if whole else None,
            shuffle=whole,
            validation_data=validation,
            validation_batch_size=batch_size if isinstance(validation, tuple) else None,
            callbacks=[*callbacks, _Follow(task, epochs)],
            verbose=0,
        )
    except tf.errors.OpError as error:
        if failed:
            raise failed[0] from None
        if other := OTHER_LENGTH.search(str(error)):
            raise DataError(
                f"{data.name}: a dataset {other[0]}; every pass must give as many batches"
            ) from None
        raise
    return {name: [float(value) for value in values] for name, values in history.history.items()}


class _Follow(keras.callbacks.Callback):
    """Reports the progress of each step and logs each epoch."""

    def __init__(self, task: Task, epochs: int) -> None:
        super().__init__()
        self._task = task
        self._epochs = epochs

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._task.advance()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = logs if logs is not None else {}
        for pruning in prunings_of(self.model):
            logs["sparsity"] = pruning.sparsity or 0.0
        figures = ", ".join(f"{name} {value:.4f}" for name, value in logs.items())
        log.info("epoch %d of %d: %s", epoch + 1, self._epochs, figures)
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss is {logs['loss']} in epoch {epoch + 1}: training diverged. "
                "Lower learning_rate."
            )
