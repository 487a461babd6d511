"""Training on a task, as a table of a recipe says."""

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfprune.data.feed import packed
from tfprune.data.model_inputs import known_inputs
from tfprune.data.streams import Stream
from tfprune.errors import DataError, OptionError, TrainingError, type_name
from tfprune.keras_support.trainer_internals import in_precision, several_workers
from tfprune.pipeline.datasets import Dataset
from tfprune.pipeline.feeding import Feeding
from tfprune.pipeline.losses import losses_of, output_names, task_of_model
from tfprune.pipeline.steps import TRAINED, filled
from tfprune.recipe.fitting import Fitting
from tfprune.recipe.recipe import Recipe
from tfprune.recipe.user_code import import_function
from tfprune.sparsity.masks import prunings_of
from tfprune.sparsity.optimizers import updates_of
from tfprune.task.scoring import Scoring, settled
from tfprune.training.optimizers import make_optimizer, make_rate
from tfprune.training.resuming import Resumable
from tfprune.utils.progress import Task

log = logging.getLogger("tfprune.run")

SCORE = "val_score"
"""The curve of the task's metric on the validation set, which early stopping follows."""


def compile_model(
    model: keras.Model,
    data: Dataset,
    optimizer: Any,
    learning_rate: Any,
    steps: int,
    where: str = "[train]",
    class_weight: Any = None,
) -> None:
    """Compile a model for its task; see `make_optimizer` and `make_rate`.

    Weights of classes are part of the loss if samples have several of them.
    """
    loss, weights, metrics = losses_of(model, data, label_weights(class_weight, data))
    with model.distribute_strategy.scope():
        made = make_optimizer(optimizer, make_rate(learning_rate, steps, where), where)
        model.compile(made, loss, loss_weights=weights, metrics=metrics)


def check_trainings(recipe: Recipe, data: Dataset) -> None:
    """Raise what is wrong in the tables that train before anything is trained.

    Raises:
        OptionError, DataError: One line.
    """
    for stage in TRAINED:
        table = getattr(recipe, stage)
        if table is None or not table.epochs:
            continue
        table, where = filled(recipe, table), f"[{stage}]"
        make_optimizer(table.optimizer or "adam", make_rate(table.learning_rate, 1, where), where)
        for name in (*(table.callbacks or ()), *([table.fit] if table.fit else ())):
            import_function(name)
        class_weights(table.class_weight, data)
        label_weights(table.class_weight, data)
        _early_stopping(table, data, 1, 0)


@dataclass(frozen=True)
class Fitted:
    """A training: its curves, one number per epoch, and notes for the report."""

    curves: dict[str, list[float]]
    notes: tuple[str, ...] = ()


def fit(
    model: keras.Model,
    data: Dataset,
    *,
    epochs: int,
    batch_size: int,
    task: Task,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    folder: Path | None = None,
    options: Fitting | None = None,
    first_scored: int = 0,
    precision: str | None = None,
) -> Fitted:
    """Train a compiled model.

    Args:
        model: The model.
        data: Its data.
        epochs: The most epochs.
        batch_size: Examples per step.
        task: Receives the progress.
        seed: Shuffles memory-mapped arrays; other streams keep their batches and their order.
        callbacks: Callbacks after those of the options.
        folder: The training is stored there after each epoch, and goes on with what is there.
        options: How it is trained.
        first_scored: The first epoch that early stopping considers.
        precision: The precision of the arithmetic; None: the model's own.

    Raises:
        TrainingError: The loss is not finite, or the user's function did not train.
        OptionError, DataError: The options do not fit the data, or a batch of a stream does not
            fit the model.
    """
    options = options or Fitting()
    early = _early_stopping(options, data, batch_size, first_scored)
    own = [make_callback(name) for name in options.callbacks or ()]
    followed = [*early, *own, *callbacks, _Follow(task, epochs)]
    resumable = Resumable(followed, folder, None if options.fit else options.backup_steps)
    given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size}
    with in_precision(model, precision), _on_workers(model.distribute_strategy):
        if options.fit is not None:
            import_function(options.fit)(model, data, [resumable], **given)
        else:
            _fit(model, data, options, resumable, given, seed)
    if not resumable.curves:
        raise TrainingError(
            f"{options.fit} trained no epoch: it called on_epoch_end of none of the callbacks. "
            "Pass callbacks to model.fit, or call them in your loop."
        )
    stopped = len(next(iter(resumable.curves.values())))
    note = f"training stopped after epoch {stopped} of {epochs}, with the best weights kept"
    return Fitted(resumable.curves, (note,) if early and stopped < epochs else ())


def _fit(
    model: keras.Model,
    data: Dataset,
    options: Fitting,
    resumable: Resumable,
    given: dict[str, Any],
    seed: int,
) -> None:
    feeding = Feeding(model, data, given["batch_size"], seed)
    weights = class_weights(options.class_weight, data)
    if weights is not None and data.train.head.w is not None:
        raise DataError(f"class_weight: {data.name} has weights of samples. Remove one of the two.")
    steps, done = options.steps_per_epoch, resumable.epochs_done
    train = feeding.repeated(steps, done, weights) if steps else feeding.train(done, weights)
    feeding.fit(
        **train,
        **feeding.validation(),
        epochs=given["epochs"],
        callbacks=[resumable],
        verbose=0,
    )


@contextlib.contextmanager
def _on_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Let `fit` run on several workers, and name what it raises if one of them has ended."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        yield
        return
    try:
        with several_workers(strategy):
            yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError) as error:
        raise TrainingError(
            f"another worker has ended, or cannot be reached ({type(error).__name__}). Start all "
            "of them again; with --resume they go on after the last epoch that is done."
        ) from error


def make_callback(source: str) -> keras.callbacks.Callback:
    """Return the callback of a user's function or class.

    Raises:
        OptionError: It cannot be imported, or returns something else.
    """
    made = import_function(source)()
    if not isinstance(made, keras.callbacks.Callback):
        raise OptionError(f"callbacks: {source} returned {type_name(made)}, not a Keras callback.")
    return made


def class_weights(given: Any, data: Dataset) -> dict[int, float] | None:
    """Return the weight of every class; None if all are 1, or if samples have several labels.

    Raises:
        DataError: The labels are neither, or have no such class.
    """
    labels, form = data.train.head.y, data.task.kind.form
    if given is None or (form == "decisions" and not data.task.outputs):
        return None
    if data.task.outputs or form != "classes" or labels[0].size != 1:
        raise DataError(
            f"class_weight: {data.name} has labels of {data.task.named}; expected one class for "
            "each sample, or several labels of 0 and 1. Remove it, or weight them in a loss of "
            "your own."
        )
    count = max(int(data.classes), 2)
    if given == "balanced":
        counts = np.bincount(_counted(data).ravel().astype(int), minlength=count)
        return {
            label: len(labels) / (np.count_nonzero(counts) * float(max(n, 1)))
            for label, n in enumerate(counts)
        }
    return dict(enumerate(_listed(given, count, data)))


def label_weights(given: Any, data: Dataset) -> np.ndarray | None:
    """Return how much each of several labels counts where it is 0, and where it is 1.

    Balanced, both count as much in all. None if all are 1, or if samples have one class each.

    Raises:
        DataError: There is no such label.
    """
    if given is None or data.task.outputs or data.task.kind.form != "decisions":
        return None
    if given == "balanced":
        ones = _counted(data).reshape(-1, data.train.head.y.shape[-1]).mean(0)
        share = np.stack([1 - ones, ones])
        return np.where(share > 0, 0.5 / np.where(share > 0, share, 1), 1.0)
    present = _listed(given, data.train.head.y.shape[-1], data)
    return np.stack([np.ones(len(present)), present])


def _counted(data: Dataset) -> np.ndarray:
    if isinstance(data.train, Stream):
        raise DataError(
            f"class_weight: {data.name} is read in batches, and its classes are not counted. "
            "Give the weight of each class."
        )
    return np.asarray(data.train.y)


def _listed(given: Any, count: int, data: Dataset) -> list[float]:
    """Return the weights of a table in the order of the classes; those not in it are 1."""
    for label in given:
        if int(label) >= count:
            raise DataError(f"class_weight: no class {label} in {data.name}, which has {count}.")
    return [given.get(str(label), 1.0) for label in range(count)]


def _early_stopping(
    options: Fitting, data: Dataset, batch_size: int, first: int
) -> list[keras.callbacks.Callback]:
    if options.early_stopping is None:
        return []
    if data.validation is None:
        raise DataError(
            f"early_stopping: {data.name} has no validation set. Give data.validation, the "
            "fraction of the training set for it."
        )
    better = data.task.measures[0].metric.higher_is_better
    monitor = SCORE if _is_scored(data) else "val_loss"
    stop = keras.callbacks.EarlyStopping(
        monitor,
        mode="max" if better and monitor == SCORE else "min",
        restore_best_weights=True,
        start_from_epoch=first,
        **options.early_stopping,
    )
    return [*([_Score(data, batch_size)] if monitor == SCORE else []), stop]


def _is_scored(data: Dataset) -> bool:
    """Return whether the validation set has a score: of anomalies, only the test set has any."""
    return data.task.name != "anomaly"


class _Score(keras.callbacks.Callback):
    """Adds the task's first metric on the validation set to the curves."""

    def __init__(self, data: Dataset, batch_size: int) -> None:
        super().__init__()
        self._data, self._size = data, batch_size
        self._task: Any = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        split, names = self._data.validation, output_names(self.model)
        task = self._task = self._task or task_of_model(self.model, self._data)
        scoring: Scoring | None = None
        assert split is not None
        takes, first = known_inputs(self.model), 0
        for batch in split.batches(self._size):
            found = self.model(packed(batch.x, takes, self._data.name), training=False)
            by_name = (
                found
                if isinstance(found, dict)
                else dict(zip(names, keras.tree.flatten(found), strict=True))
            )
            outputs = {name: np.asarray(by_name[name], np.float32) for name in names}
            scoring = scoring or Scoring(settled(task, outputs))
            scoring.add(outputs, batch.y, batch.x, first)
            first += len(batch)
        if logs is not None and scoring is not None:
            logs[SCORE] = scoring.values()[0]


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
        if not math.isfinite(logs.get("loss", 0.0)):
            raise TrainingError(
                f"the loss is {logs['loss']} in epoch {epoch + 1}: training diverged. "
                "Lower learning_rate."
            )
