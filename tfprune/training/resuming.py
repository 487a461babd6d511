"""Training that goes on where it was interrupted, with the result of an unbroken one.

`keras.callbacks.BackupAndRestore` stores the weights and the optimizer after each epoch, and if
asked, after a number of steps. Stored beside them is what Keras leaves out: masks, shared values,
the states of random numbers, what callbacks such as EarlyStopping remember, the curves so far, and
within an epoch, its metrics.
"""

import functools
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfprune.clustering.cluster import shared_values_of
from tfprune.keras_support.trainer_internals import begin_at_first_epoch, seed_states_of
from tfprune.sparsity import mask_files
from tfprune.training.stored import NotPlain, log, pack, store, stored


class Resumable(keras.callbacks.CallbackList):
    """The callbacks of one training, stored with it after each epoch.

    Its first `fit` is stored, and goes on with what is. If it is interrupted in a second one, that
    begins again.

    Args:
        callbacks: The callbacks; of their attributes, plain values are stored.
        folder: Where the training is stored. None stores nothing.
        steps: The training is also stored after so many steps of an epoch. None: not within one.

    Attributes:
        curves: One number per epoch, by name.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        folder: Path | None = None,
        steps: int | None = None,
    ) -> None:
        super().__init__(list(callbacks))
        self.curves: dict[str, list[float]] = {}
        self._folder, self._steps = folder, steps
        self._stored = stored(folder) if folder is not None else None
        self._fits = 0
        self._epoch = self._done = self._skipped = 0  # the epoch, its steps, those not done again
        self._random: list[Any] = []

    @property
    def epochs_done(self) -> int:
        """How many epochs are stored, which `fit` leaves out."""
        return self._stored[1]["epoch"] if self._stored is not None else 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._fits += 1
        found = self._stored if self._fits == 1 else None
        if found is not None:
            # Before the callbacks begin: they read the number of steps that were done.
            place, state = found
            self._restore(place, state)
            self.curves = state["curves"]
            within = state.get("within")
            step = f", step {within['steps']} of the next" if within else ""
            log.info("resumed after epoch %d%s", state["epoch"], step)
        super().on_train_begin(logs)
        if found is not None:
            # After they began, which resets what they remember.
            _set_callback_states(self.callbacks, found[1]["callbacks"])
            _set_random_state(found[1]["random"])

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch, self._done = epoch, 0
        self._random = _random_state()
        super().on_epoch_begin(epoch, logs)
        found = self._stored if self._fits == 1 else None
        if found is not None and found[1].get("within") and epoch == found[1]["epoch"]:
            self._done = self._skipped = found[1]["within"]["steps"]
            _skip(self.model, self._skipped, lambda: self._restore_within(*found))

    def _restore(self, place: Path, state: dict[str, Any]) -> None:
        _backup(place, self.model).on_train_begin()
        _set_model_state(self.model, state)

    def _restore_within(self, place: Path, state: dict[str, Any]) -> dict[str, Any]:
        """Set everything to what it was within an epoch, and return what that step logged."""
        self._restore(place, state)
        for variable, value in zip(
            self.model.metrics_variables, state["within"]["metrics"], strict=True
        ):
            variable.assign(value)
        _set_callback_states(self.callbacks, state["callbacks"])
        return state["within"]["logs"]

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if not self._skipped:
            super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._skipped:
            self._skipped -= 1
            return
        super().on_train_batch_end(batch, logs)
        self._done += 1
        due = self._steps is not None and self._done % self._steps == 0
        if due and self._folder is not None and self._fits == 1:
            within = {
                "steps": self._done,
                "logs": {name: float(value) for name, value in (logs or {}).items()},
                "metrics": [np.array(one) for one in self.model.metrics_variables],
            }
            # Of the beginning of the epoch, from which its data are read again.
            self._store(self._folder, self._epoch, self._epoch, self._random, within)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        # One table for all, which some add to; the method of the base gives copies.
        logs = dict(logs or {})
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)
        for name, value in logs.items():
            self.curves.setdefault(name, []).append(float(value))
        if self._folder is not None and self._fits == 1:
            # A training that was stopped has no further epochs.
            stopped = getattr(self.model, "stop_training", False)
            begins = (self.params or {}).get("epochs", epoch + 1) if stopped else epoch + 1
            self._store(self._folder, epoch + 1, begins, _random_state())

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        begin_at_first_epoch(self.model)
        super().on_train_end(logs)

    def _store(
        self, folder: Path, done: int, begins: int, drawn: list[Any], within: Any = None
    ) -> None:
        """Store the training, which goes on with the epoch `begins`."""
        state = {
            "epoch": done,
            "within": within,
            "curves": self.curves,
            **_model_state(self.model),
            "callbacks": [_plain_attributes(callback) for callback in self.callbacks],
            "random": drawn,
        }
        store(folder, state, lambda place: _backup(place, self.model).on_epoch_end(begins - 1))


def _skip(model: keras.Model, steps: int, restore: Callable[[], dict[str, Any]]) -> None:
    """Read the batches of the next steps of `fit` without training on them, and restore.

    But for the first: Keras has no metrics before it has trained.
    """
    train, read = model.train_function, 0

    @functools.wraps(train)
    def skipping(iterator: Any) -> dict[str, Any]:
        nonlocal read
        logs: dict[str, Any] = {}
        if read:
            next(iterator)
        else:
            logs = train(iterator)
        read += 1
        if read < steps:
            return logs
        model.train_function = train
        return restore()

    model.train_function = skipping


def _backup(folder: Path, model: keras.Model) -> keras.callbacks.BackupAndRestore:
    backup = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
    backup.set_model(model)
    return backup


def _model_state(model: keras.Model) -> dict[str, Any]:
    return {
        "masks": mask_files.state_of(model),
        "shared": [one.state() for one in shared_values_of(model)],
        "seeds": [np.array(state) for state in seed_states_of(model)],
    }


def _set_model_state(model: keras.Model, state: dict[str, Any]) -> None:
    mask_files.set_state(model, state["masks"])
    for one, arrays in zip(shared_values_of(model), state["shared"], strict=True):
        one.set_state(arrays)
    for variable, value in zip(seed_states_of(model), state["seeds"], strict=True):
        variable.assign(value)


def _plain_attributes(callback: Any) -> dict[str, Any]:
    """Return the attributes of a callback that are plain values, which is what it remembers."""
    found = {}
    for name, value in vars(callback).items():
        if name == "params":  # what `fit` was called with
            continue
        try:
            pack(value, [])
        except NotPlain:
            continue
        found[name] = value
    return found


def _set_callback_states(callbacks: Sequence[Any], states: Sequence[dict[str, Any]]) -> None:
    for callback, state in zip(callbacks, states, strict=True):
        vars(callback).update(state)


def _random_state() -> list[Any]:
    return [random.getstate(), np.random.get_state()]


def _set_random_state(states: Sequence[Any]) -> None:
    random.setstate(states[0])
    np.random.set_state(states[1])
