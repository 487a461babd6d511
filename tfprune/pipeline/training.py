"""Deterministic training on a task."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tfprune.errors import TrainingError
from tfprune.pipeline.datasets import Dataset
from tfprune.pipeline.losses import losses_of
from tfprune.sparsity.masks import prunings_of
from tfprune.sparsity.optimizers import updates_of
from tfprune.training.resuming import Resumable
from tfprune.utils.progress import Task

log = logging.getLogger("tfprune.run")


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
    callbacks: Sequence[keras.callbacks.Callback] = (),
    folder: Path | None = None,
) -> dict[str, list[float]]:
    """Train a compiled model and return its curves, one number per epoch.

    The training is stored in the folder after each epoch, and goes on with what is stored there.

    Raises:
        TrainingError: The loss is not finite.
    """
    validation = (data.validation.x, data.targets(data.validation)) if data.validation else None
    resumable = Resumable([*callbacks, _Follow(task, epochs)], folder)
    model.fit(
        data.train.x,
        data.targets(data.train),
        epochs=epochs,
        batch_size=batch_size,
        validation_data=validation,
        validation_batch_size=batch_size,
        callbacks=[resumable],
        verbose=0,
    )
    return resumable.curves


class _Follow(keras.callbacks.Callback):
    """Reports the progress of each step and logs each epoch."""

    def __init__(self, task: Task, epochs: int) -> None:
        super().__init__()
        self._task = task
        self._epochs = epochs

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._task.advance(updates_of(self.model.optimizer))  # of a training that is resumed

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
