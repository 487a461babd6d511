"""Masks that keep pruned weights at zero, applied by the optimizer inside its own step.

A mask is a constraint on the variable. Keras's optimizers call it after every update, within the
compiled training step, so it costs one multiplication and cannot be forgotten. The model is not
wrapped: its layers, names, configs and saved files do not change.
"""

import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from tfprune.errors import ModelError, ScheduleWarning, type_name
from tfprune.graph.kernels import (
    PrunableKernel,
    Skipped,
    attach_when_built,
    find_kernels,
    stop_waiting,
    variable_beside,
    walk_layers,
)
from tfprune.keras_support.internals import own_variables
from tfprune.sparsity.choices import allocation as allocations
from tfprune.sparsity.choices.patterns import AnyPattern, WholeUnits
from tfprune.sparsity.choices.schedules import PruningSchedule
from tfprune.sparsity.choices.scores import SCORES, Evidence, Score, score_weights
from tfprune.sparsity.optimizers import average_of
from tfprune.sparsity.unheld import Unheld
from tfprune.sparsity.unit_masks import Closing, are_closed, choose_masks, join
from tfprune.utils.filters import check_used, choose


class Hold(keras.constraints.Constraint):
    """Keeps the masked weights of one variable at zero, for one call of `prune`."""

    is_pruning_mask = True  # for modules that do not import this class

    def __init__(self, kernel: PrunableKernel, pruning: "Pruning") -> None:
        self.kernel, self.pruning = kernel, pruning
        before: Any = kernel.variable.constraint
        held = isinstance(before, Hold)
        self.replaced: Any = before
        self.inner: Any = before.inner if held else before
        if isinstance(self.inner, Unheld):
            self.inner = None  # they are held from now on
        # Stored twice: as booleans for Python, and as the factor in the step.
        self._kept = before.mask_array() if held else np.ones(kernel.shape, bool)
        variable, still = kernel.variable, np.zeros(kernel.shape)
        self.mask = variable_beside(variable, self._kept, variable.dtype)
        moves = pruning.choices.score.needs == "movement"
        self.movement = variable_beside(variable, still, variable.dtype) if moves else None
        self.previous = variable_beside(variable, still, variable.dtype) if moves else None
        # The average that an optimizer with `use_ema` assigns to the weights in the end.
        self.average: Any = None
        self.revived = 0
        # Whether an optimizer has called it: False in a step compiled before the pruning.
        self.in_step = False
        kernel.variable.constraint = self

    def __call__(self, w: Any) -> Any:
        # In a compiled step the Python code here runs once, during tracing.
        self.in_step = True
        self.pruning.warn_if_not_advanced()
        value = self.inner(w) if self.inner is not None else w
        value = tf.convert_to_tensor(value)
        if self.movement is not None and self.previous is not None:
            self.movement.assign_add(self.previous * (value - self.previous))
        # multiply_no_nan gives +0 for every masked weight. A product would give -0 for negative
        # ones, whose sign bits enlarge a zipped file, and NaN for infinity.
        value = tf.math.multiply_no_nan(value, self.mask)
        if self.previous is not None:
            self.previous.assign(value)
        self.average = average_of(self.kernel.variable)
        self._mask_average()
        return value

    def start_movement(self) -> None:
        """Count movement from the weights as they are now."""
        if self.previous is not None:
            self.previous.assign(self.kernel.variable.value)

    def weights(self) -> NDArray:
        """Return the variable's current value, at least float32, which must not be modified."""
        value = _snapshot(self.kernel.variable.value)
        return value if value.dtype in (np.float32, np.float64) else value.astype(np.float32)

    def mask_array(self) -> NDArray[np.bool_]:
        """Return the mask as booleans, which must not be modified."""
        return self._kept

    def set_mask(self, mask: NDArray[np.bool_]) -> None:
        """Set a new mask and apply it to the weights."""
        self.revived += int(np.count_nonzero(mask > self._kept))
        self._kept = mask
        self.mask.assign(tf.cast(mask, self.mask.dtype))
        self.apply()
        # Masking is not movement by training.
        self.start_movement()

    def apply(self) -> None:
        """Set the masked weights to zero."""
        variable = self.kernel.variable
        variable.assign(tf.math.multiply_no_nan(variable.value, self.mask))
        self._mask_average()

    def _mask_average(self) -> None:
        if self.average is not None:
            self.average.assign(tf.math.multiply_no_nan(self.average.value, self.mask))

    def count_overwritten(self) -> int:
        """Return how many masked weights were set to nonzero values."""
        return int(np.count_nonzero((self.weights() != 0) & ~self.mask_array()))

    def undo(self) -> None:
        """Undo this call of `prune`, restoring the previous constraint."""
        self.kernel.variable.constraint = self.replaced

    def release(self) -> int:
        """Apply the mask a last time and remove it; return how many weights that changed."""
        overwritten = self.count_overwritten()
        if overwritten:
            self.apply()
        self.kernel.variable.constraint = self.inner
        # A compiled step multiplies by the mask until it is traced again.
        self._kept = np.ones(self.kernel.shape, bool)
        self.mask.assign(tf.ones_like(self.mask))
        return overwritten


def _snapshot(variable: Any) -> NDArray:
    """Return a variable's value without copying it.

    TensorFlow assigns the variable another buffer if it is written to while this one is in use.
    """
    return np.asarray(tf.convert_to_tensor(variable))


@dataclass(frozen=True)
class Choices:
    """The choices of one call of `prune`, and the kernels they apply to."""

    score: Score
    pattern: AnyPattern
    allocation: allocations.Allocation
    schedule: PruningSchedule
    only: tuple[Any, ...] = ()
    skip: tuple[Any, ...] = ()
    leave: Callable[[PrunableKernel], str] = lambda kernel: ""
    gradients: Callable[[Sequence[Any]], list[NDArray]] | None = None
    seed: int = 0


@dataclass
class Pruning:
    """One call of `prune`: the kernels it holds and its position on the schedule.

    Attributes:
        step: Training steps since the beginning of the schedule, or None before the first update.
        sparsity: The sparsity of the current masks, or None while they keep all weights.
        joint: The units that span several variables, for patterns of whole units.
        offset: Steps of the schedule that earlier optimizers have done.
    """

    choices: Choices
    holds: list[Hold] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    step: int | None = None
    sparsity: float | None = None
    joint: Closing | None = None
    offset: int = 0
    _seen: list[PrunableKernel] = field(default_factory=list)
    _advancer: Callable[[], Any] = lambda: None
    _warned: bool = False

    def attach(self, roots: Sequence[Any]) -> None:
        """Hold the kernels below some layers; those of unbuilt layers when they are built."""
        if isinstance(self.choices.pattern, WholeUnits):
            only, skip = self.choices.only, self.choices.skip
            self.joint = join(self.choices.pattern, roots, only, skip)
            self.skipped += self.joint.skipped
            self._seen += self.joint.kernels
            self.holds += [Hold(kernel, self) for kernel in self.joint.kernels]
            return
        for layer in list(walk_layers(roots)):
            if not layer.built:
                attach_when_built(self, "pruning", layer)
        kernels, skipped = find_kernels(roots)
        known = {entry.layer for entry in self.skipped}
        self.skipped += [entry for entry in skipped if entry.layer not in known]
        known_kernels = {id(kernel.variable) for kernel in self._seen}
        kernels = [kernel for kernel in kernels if id(kernel.variable) not in known_kernels]
        self._seen += kernels
        choices = self.choices
        chosen = choose(kernels, PrunableKernel.names, choices.only, choices.skip)
        for kernel, take in zip(kernels, chosen, strict=True):
            reason = choices.leave(kernel) if take else "left out by only= or skip="
            if reason:
                entry = Skipped(kernel.path, type_name(kernel.layer), reason, usual=True)
                self.skipped.append(entry)
            else:
                self.holds.append(Hold(kernel, self))

    def detach(self, roots: Sequence[Any]) -> None:
        """Undo `attach`, also for layers that are not built yet."""
        for hold in self.holds:
            hold.undo()
        stop_waiting(roots, "pruning", self)

    def check_filters(self) -> None:
        """Raise FilterError if a filter matches none of the kernels found."""
        if self.joint is None:  # its filters match groups of units
            check_used(self._seen, PrunableKernel.names, self.choices.only, self.choices.skip)

    def position(self, iterations: int) -> int:
        """Return the schedule's step for the optimizer's.

        A new optimizer starts at zero again; the schedule continues from its last step.
        """
        step = iterations + self.offset
        return step if self.step is None else max(step, self.step)

    def advance(self, iterations: int) -> bool:
        """Advance the schedule to the optimizer's step; return whether masks were updated."""
        if not self._seen:
            return False  # the model is built with the first step
        step = self.position(iterations)
        self.offset = step - iterations
        schedule = self.choices.schedule
        if self.step is None:
            self.check_filters()
            for hold in self.holds:
                hold.start_movement()
            due = schedule.last_due(step)
        else:
            due = next((s for s in range(step, self.step, -1) if schedule(s)[0]), None)
        resumed = self.step is None and step > 0
        self.step = step
        if due is None:
            return False
        return self.update(float(schedule(due)[1]), recover=resumed)

    def set_advancer(self, advancer: Any) -> None:
        """Record what advances the schedule while the model trains; None when it ends."""
        self._advancer = weakref.ref(advancer) if advancer is not None else lambda: None
        self._warned = False

    def is_finished(self) -> bool:
        """Return whether the masks have the final sparsity of the schedule, if it is known."""
        final = self.choices.schedule.final()
        return self.sparsity is not None and (final is None or self.sparsity >= final)

    def warn_if_not_advanced(self) -> None:
        """Warn, once, if the model trains and nothing advances an unfinished schedule."""
        if self._warned or self._advancer() is not None or self.is_finished():
            return
        self._warned = True
        final = self.choices.schedule.final()
        aim = "" if final is None else f" of {final:.3g}"
        warnings.warn(
            f"the model trains, but nothing advances {self.choices.schedule}: {self.names()} will "
            f"remain at a sparsity of {self.sparsity or 0:.3g}{aim}. Add UpdatePruningStep() to "
            "the callbacks of fit, or call its methods in your training loop",
            ScheduleWarning,
            stacklevel=3,
        )

    def names(self) -> str:
        """Return the names of the held kernels, for messages."""
        paths = [hold.kernel.path for hold in self.holds]
        if not paths:
            return "the model, which has not been built"
        return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")

    def replaced(self) -> list[str]:
        """Return the kernels whose mask was replaced by another constraint."""
        constraints = ((h.kernel.path, h.kernel.variable.constraint) for h in self.holds)
        return [path for path, constraint in constraints if not isinstance(constraint, Hold)]

    def steps_without_update(self) -> int:
        """Return how many of the next steps, at most 100, will not update the masks."""
        if self.step is None:
            return 0
        ahead = range(self.step + 1, self.step + 101)
        return next((s - ahead.start for s in ahead if self.choices.schedule(s)[0]), len(ahead))

    def update(self, sparsity: float, *, recover: bool = False) -> bool:
        """Compute and apply the masks for a sparsity; return whether there was anything to do.

        With `recover`, the weights may come from a run that pruned them to this sparsity: then
        the zeros become the mask, whatever the score.
        """
        if not self.holds:
            return False
        choices = self.choices
        if choices.score.settled and sparsity == self.sparsity:
            return False
        arrays = [hold.weights() for hold in self.holds]
        score = choices.score
        if recover and self.is_pruned_to(sparsity):
            score = SCORES["magnitude"]
        scores = self._scores(arrays, score)
        for hold, mask in zip(self.holds, self._masks(scores, sparsity), strict=True):
            hold.set_mask(mask)
        self.sparsity = sparsity
        return True

    def _scores(self, arrays: list[NDArray], score: Score) -> list[NDArray]:
        gradients: Sequence[NDArray | None] = [None] * len(arrays)
        if score.needs == "gradient":
            if self.choices.gradients is None:
                raise ModelError("this score needs data and a loss: prune(…, data=…, loss=…)")
            gradients = self.choices.gradients([hold.kernel.variable for hold in self.holds])
        scores = []
        for number, (hold, array, gradient) in enumerate(
            zip(self.holds, arrays, gradients, strict=True)
        ):
            moved = None if hold.movement is None else hold.movement.numpy()
            rng = np.random.default_rng([self.choices.seed, number])
            evidence = Evidence(gradient, moved, rng)
            scores.append(score_weights(score, array, evidence))
        return scores

    def _masks(self, scores: list[NDArray], sparsity: float) -> list[NDArray[np.bool_]]:
        pattern, allocation = self.choices.pattern, self.choices.allocation
        final = self.choices.schedule.final()
        progress = min(sparsity / final, 1.0) if final else 1.0
        if self.joint is not None:
            return choose_masks(self.joint, scores, allocation, sparsity, progress)
        assert not isinstance(pattern, WholeUnits)
        views = [hold.kernel.view(score) for hold, score in zip(self.holds, scores, strict=True)]
        if pattern.fixed is None:
            shares = [
                allocations.Share(hold.kernel.path, hold.kernel.shape, pattern.pool(view))
                for hold, view in zip(self.holds, views, strict=True)
            ]
            counts = allocation(shares, sparsity, progress)
        else:
            counts = [0] * len(scores)
        return [
            hold.kernel.unview(pattern.mask(view, count))
            for hold, view, count in zip(self.holds, views, counts, strict=True)
        ]

    def is_pruned_to(self, sparsity: float) -> bool:
        """Return whether the weights have the zeros of this sparsity, as in a resumed run."""
        arrays = [hold.weights() for hold in self.holds]
        pattern = self.choices.pattern
        if self.joint is not None:
            return are_closed(self.joint, arrays, self.choices.allocation, sparsity)
        assert not isinstance(pattern, WholeUnits)
        if pattern.fixed is not None:  # an incomplete group at the edge may keep more
            views = [hold.kernel.view(abs(a)) for hold, a in zip(self.holds, arrays, strict=True)]
            return not any(view[~pattern.mask(view, 0)].any() for view in views)
        zeros = sum(array.size - int(np.count_nonzero(array)) for array in arrays)
        return zeros >= 0.99 * sparsity * sum(array.size for array in arrays)


def holds_of(model: Any) -> list[Hold]:
    """Return the holds in a model, in the order of its layers."""
    found: dict[int, Hold] = {}
    for layer in walk_layers([model]):
        for variable in own_variables(layer):
            if isinstance(variable.constraint, Hold):
                found.setdefault(id(variable), variable.constraint)
    return list(found.values())


def prunings_of(model: Any) -> list[Pruning]:
    """Return the calls of `prune` that hold kernels of a model or wait until it is built."""
    waiting = (getattr(layer.build, "pruning", None) for layer in walk_layers([model]))
    found = [hold.pruning for hold in holds_of(model)] + [p for p in waiting if p is not None]
    return list({id(pruning): pruning for pruning in found}.values())
