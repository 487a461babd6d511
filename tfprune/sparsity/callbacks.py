"""Callbacks for `fit`: one advances the schedule, one writes the sparsity for TensorBoard."""

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from tfprune.errors import ModelError, OptionError, ScheduleWarning
from tfprune.sparsity.masks import Pruning, holds_of, prunings_of
from tfprune.sparsity.optimizers import batches_of, batches_per_update, optimizer_of, updates_of
from tfprune.sparsity.pruning import retrace
from tfprune.sparsity.unheld import describe_zeros, unheld_zeros
from tfprune.utils.extras import require


class MaskUpdates(keras.callbacks.Callback):
    """`UpdatePruningStep` for Keras 3 models."""

    def __init__(self) -> None:
        super().__init__()
        self._prunings: list[Pruning] = []
        self._warned: list[Pruning] = []  # whose training is too short
        self._first = 0  # batches the optimizer processed before this training
        self._trained = 0  # batches since, as reported by Keras
        self._last = -1  # number of the last batch in its epoch
        self._begun: int | None = None  # a batch whose end has not been reported
        self._reports_first = False  # whether Keras reports the first of several batches
        self._seen = 0  # steps when they were last read
        self._batches = 0  # calls since then
        self._patience = 1  # how many batches may pass before the next reading
        self._pace = 1  # most steps that a batch took

    def set_model(self, model: Any) -> None:
        super().set_model(model)
        _unwatch(model)
        if not all(hold.in_step for hold in holds_of(model)):
            # A part of the model was pruned after its step was compiled.
            retrace(model)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._prunings, self._warned = prunings_of(self.model), []
        if not self._prunings:
            self._raise_not_pruned()
        self._first, self._trained, self._last = batches_of(optimizer_of(self.model)), 0, -1
        self._begun = None
        steps = self._steps()
        for pruning in self._prunings:
            self._warn_if_replaced(pruning)
            self._warn_if_too_short(pruning, steps)
            pruning.set_advancer(self)
        for hold in holds_of(self.model):
            hold.apply()
        self._advance()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._last = -1
        # Another callback may have restored an earlier run at the start of training.
        self._advance()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._end_begun()
        self._begun = batch

    def _end_begun(self) -> None:
        # A training loop written for tensorflow-model-optimization reports no ends of batches.
        if self._begun is not None:
            self.on_train_batch_end(self._begun)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self._begun = None
        batch = self._last_of_execution(batch)
        self._trained += max(batch - self._last, 1)
        self._last = batch
        self._batches += 1
        if self._batches >= self._patience:
            self._advance()

    def _last_of_execution(self, batch: int) -> int:
        """Return the number of the last batch that Keras ran before it reported this one.

        With `steps_per_execution`, Keras reports the last of several batches; 3.10 the first.
        """
        several = getattr(self.model, "steps_per_execution", None) or 1
        if self._last == -1:
            self._reports_first = batch == 0 and several > 1
        if not self._reports_first:
            return batch
        steps = (self.params or {}).get("steps")
        return min(batch + several, steps or batch + several) - 1

    def on_epoch_end(
        self,
        epoch: int | None = None,
        logs: dict[str, Any] | None = None,
        *,
        batch: int | None = None,  # what tensorflow-model-optimization calls `epoch`
    ) -> None:
        self._end_begun()
        self._advance()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self._advance()
        for pruning in self._prunings:
            pruning.set_advancer(None)
        unfinished = [pruning for pruning in self._prunings if not pruning.is_finished()]
        if unfinished:
            _watch(self.model, unfinished)
        overwritten = {}
        for hold in holds_of(self.model):
            if count := hold.count_overwritten():
                hold.apply()
                overwritten[hold.kernel.path] = count
        for pruning in unfinished:
            if pruning not in self._warned and (message := shortfall(pruning, pruning.step or 0)):
                warnings.warn(f"UpdatePruningStep: {message}", ScheduleWarning, stacklevel=2)
        if overwritten:
            warnings.warn(
                f"UpdatePruningStep: set {sum(overwritten.values()):,} pruned weights of "
                f"{', '.join(overwritten)} back to zero, which something other than the optimizer "
                "had changed when training ended (restored weights): evaluate the model again",
                ScheduleWarning,
                stacklevel=2,
            )

    def _raise_not_pruned(self) -> None:
        zeros = unheld_zeros(self.model)
        found = (
            f", and no mask holds the zeros of {describe_zeros(zeros)}: saved models have none"
            if zeros
            else ""
        )
        raise ModelError(
            f"UpdatePruningStep: nothing of the model {self.model.name!r} is pruned{found}; call "
            "prune() or prune_low_magnitude() on it first, or remove the callback"
        )

    def _steps(self) -> int:
        optimizer = optimizer_of(self.model)
        if self.model.trainable_weights:
            return updates_of(optimizer)
        # Without trainable weights the optimizer counts no steps.
        return (self._first + self._trained) // batches_per_update(optimizer)

    def _advance(self) -> None:
        steps = self._steps()
        for pruning in self._prunings:
            pruning.advance(steps)
        if self._batches:
            self._pace = max(self._pace, -(-(steps - self._seen) // self._batches))
        # Reading the counter waits for the step, so it is skipped while no update can be due. Only
        # half of those steps are skipped, since a batch may take more steps later.
        steps = min(pruning.steps_without_update() for pruning in self._prunings)
        self._patience = steps // (2 * self._pace) + 1
        self._seen, self._batches = steps, 0

    def _warn_if_too_short(self, pruning: Pruning, steps: int) -> None:
        params = self.params or {}
        batches, epochs = params.get("steps"), params.get("epochs")
        first = pruning.position(steps)
        message = head_start(pruning, first)
        if not message and batches and epochs:
            per_update = batches_per_update(self.model.optimizer)
            last = (self._first + batches * epochs) // per_update
            message = shortfall(pruning, first + last - self._first // per_update)
        if message:
            self._warned.append(pruning)
            warnings.warn(f"UpdatePruningStep: {message}", ScheduleWarning, stacklevel=2)

    def _warn_if_replaced(self, pruning: Pruning) -> None:
        replaced = pruning.replaced()
        if replaced:
            warnings.warn(
                f"UpdatePruningStep: {', '.join(replaced)} had a constraint set after prune(), "
                "which replaced the mask: its zeros are not held. Set it before prune(), which "
                "keeps it",
                ScheduleWarning,
                stacklevel=2,
            )


def _watch(model: Any, prunings: Sequence[Pruning]) -> None:
    """Make a compiled step warn if it runs without anything that advances a schedule.

    The step was traced while a callback did, and runs no Python code again.
    """
    step = getattr(model, "train_function", None)
    if step is None:
        return

    @functools.wraps(step)
    def watched(iterator: Any) -> Any:
        for pruning in prunings:
            pruning.warn_if_not_advanced()
        return step(iterator)

    watched.prunings = prunings  # type: ignore[attr-defined]
    model.train_function = watched


def _unwatch(model: Any) -> None:
    step = getattr(model, "train_function", None)
    if step is not None and hasattr(step, "prunings"):
        model.train_function = step.__wrapped__


def head_start(pruning: Pruning, first: int) -> str:
    """Return a warning if a schedule counts steps done before the model was pruned, or ""."""
    schedule = pruning.choices.schedule
    due = schedule.last_due(first)
    if pruning.step is not None or first == 0 or due is None:
        return ""
    sparsity = float(schedule(due)[1])
    if pruning.is_pruned_to(sparsity):
        return ""
    return (
        f"the optimizer has already done {first} steps, and {schedule} counts them: it prunes to "
        f"{sparsity:.3g} at once. Call compile() after prune() to begin at step 0."
    )


def shortfall(pruning: Pruning, last: int) -> str:
    """Return a warning if a schedule will not reach its final sparsity by `last`, or ""."""
    schedule = pruning.choices.schedule
    due = schedule.last_due(last)
    if due is None:
        return (
            f"{schedule} never fires: this training ends at step {last}. "
            "Begin earlier or train longer."
        )
    reached, final = float(schedule(due)[1]), schedule.final()
    if final is not None and reached < final:
        word = "never prunes anything" if reached == 0 else f"ends at {reached:.3g} of {final:.3g}"
        return (
            f"{schedule} {word}: this training ends at step {last}. "
            "Make end_step smaller, frequency smaller, or train longer."
        )
    return ""


class Summaries(keras.callbacks.TensorBoard):
    """TensorBoard, with summaries of weights in a folder of their own.

    A subclass gives its public name, for errors, and that folder below `log_dir`.
    """

    _call, _folder = "", ""

    def __init__(self, log_dir: str, **kwargs: Any) -> None:
        if not isinstance(log_dir, str) or not log_dir:
            raise OptionError(f"log_dir: expected a non-empty string. Received {log_dir!r}.")
        require(self._call, "tensorboard", "tensorboard")
        super().__init__(log_dir=log_dir, **kwargs)
        self._writer: Any = None

    @contextlib.contextmanager
    def _written(self) -> Iterator[int]:
        """Write what a `with` block summarizes, and yield the step."""
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(f"{self.log_dir}/{self._folder}")
        with self._writer.as_default():
            yield updates_of(self.model.optimizer)
            self._writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_end(logs)
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class MaskSummaries(Summaries):
    """`PruningSummaries` for Keras 3 models."""

    _call, _folder = "PruningSummaries", "metrics"

    def __init__(self, log_dir: str, update_freq: str | int = "epoch", **kwargs: Any) -> None:
        super().__init__(log_dir, update_freq=update_freq, **kwargs)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_begin(epoch, logs)
        import tensorflow as tf

        with self._written() as step:
            for hold in holds_of(self.model):
                mask = hold.mask_array()
                kept = abs(hold.weights()[mask])
                name = hold.kernel.path
                tf.summary.scalar(f"{name}/sparsity", 1 - mask.mean(), step=step)
                tf.summary.scalar(f"{name}/threshold", kept.min() if kept.size else 0.0,
                                  step=step)  # fmt: skip
