"""Schedules: the sparsity at each step, as plain functions of the step.

Names, arguments, defaults and numbers are those of tensorflow-model-optimization, with two
differences. `step` is the number of optimizer steps done, so that `begin_step=0` prunes before
the first one. And `end_step` always prunes, even if it is not a multiple of `frequency`, so that
the final sparsity is reached.

What `ConstantSparsity` and `PolynomialDecay` return has `.numpy()`, as scripts expect; inside a
TensorFlow graph, where the step is a symbolic tensor, they return tensors.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tfprune.errors import OptionError


class _Truth(int):
    """True or False with `.numpy()`; `bool` itself cannot be subclassed."""

    def __repr__(self) -> str:
        return str(bool(self))

    def numpy(self) -> np.bool_:
        return np.bool_(self)


class _Share(float):
    """A fraction with `.numpy()`."""

    def numpy(self) -> np.float32:
        return np.float32(self)


class PruningSchedule(ABC):
    """When to prune and how much. Subclass it and implement `__call__` and `get_config`.

    On Keras 3, `step` is a number. Models of `tf_keras` call the schedule as
    tensorflow-model-optimization does: inside the graph of the step, with a tensor.

    Example:
        >>> class EveryTen(PruningSchedule):
        ...     def __call__(self, step):
        ...         return step % 10 == 0, 0.5
        ...     def get_config(self):
        ...         return {"class_name": "EveryTen", "config": {}}
        >>> EveryTen()(20)
        (True, 0.5)
    """

    @abstractmethod
    def __call__(self, step: int) -> tuple[bool, float]:
        """Return whether masks are updated at `step`, and to which sparsity."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return `{"class_name": …, "config": {constructor arguments}}`."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Build a schedule from the inner `config` of `get_config`."""
        return cls(**config)

    def final(self) -> float | None:
        """Return the sparsity at the end, or None if it is unknown."""
        return None

    def last_due(self, step: int) -> int | None:
        """Return the last step up to and including `step` at which masks are updated, if any."""
        return next((s for s in range(step, -1, -1) if self(s)[0]), None)

    # The three helpers below keep tensorflow-model-optimization's names, for subclasses written
    # against it.

    def _should_prune_in_step(
        self, step: Any, begin_step: int, end_step: int, frequency: int
    ) -> Any:
        # Operators that tensors have too; `==` compares identities in graphs of TensorFlow 1.
        in_range = (step >= begin_step) & ((step <= end_step) | (end_step < 0))
        at_end = (step >= end_step) & (end_step >= 0)
        return in_range & (((step - begin_step) % frequency < 1) | at_end)

    def _last_due(self, step: int, begin_step: int, end_step: int, frequency: int) -> int | None:
        if step < begin_step:
            return None
        if 0 <= end_step <= step:
            return end_step
        return step - (step - begin_step) % frequency

    def _validate_step(
        self, begin_step: int, end_step: int, frequency: int, allow_negative_1: bool
    ) -> None:
        for name, value in (
            ("begin_step", begin_step),
            ("end_step", end_step),
            ("frequency", frequency),
        ):
            if not _is_number(value) or not float(value).is_integer():
                raise OptionError(f"{name}: expected a whole number. Received {value!r}.")
        if begin_step < 0:
            raise OptionError(f"begin_step should be >= 0. Received {begin_step}.")
        if not allow_negative_1 and end_step == -1:
            raise OptionError("end_step cannot be -1. Pass the step at which the ramp ends.")
        if end_step != -1:
            if end_step < 0:
                raise OptionError(f"end_step can be -1 or >= 0. Received {end_step}.")
            if end_step < begin_step:
                raise OptionError(
                    "begin_step should be <= end_step if end_step != -1. "
                    f"Received begin_step={begin_step}, end_step={end_step}."
                )
        if frequency <= 0:
            raise OptionError(f"frequency should be > 0. Received {frequency}.")

    def _validate_sparsity(self, sparsity: float, variable_name: str) -> None:
        check_sparsity(sparsity, variable_name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def check_sparsity(sparsity: float, name: str) -> None:
    """Raise unless `sparsity` is a fraction in [0, 1)."""
    if not _is_number(sparsity):
        raise OptionError(f"{name} must be in range [0,1). Received {sparsity!r}.")
    if not 0.0 <= sparsity < 1.0:
        hint = f" Did you mean {sparsity / 100:g}?" if 1 <= sparsity < 100 else ""
        raise OptionError(f"{name} must be in range [0,1). Received {sparsity:g}.{hint}")


@dataclass(frozen=True)
class _BuiltIn(PruningSchedule):
    """A schedule whose fields are its config."""

    def get_config(self) -> dict[str, Any]:
        return {"class_name": type(self).__name__, "config": asdict(self)}


class _OfPeer(_BuiltIn):
    """A schedule that tensorflow-model-optimization has too: scripts and its wrappers call it."""

    if TYPE_CHECKING:  # fields of the subclasses, in their order
        begin_step: int
        end_step: int
        frequency: int

    def __call__(self, step: int) -> tuple[bool, float]:
        graph = None if isinstance(step, int | np.integer) else _graph()
        if graph is not None:
            return self._due(step), self._share_in_graph(graph, step)
        step = int(step)
        # mypy: these are what bool and float would be, with one more method.
        return _Truth(self._due(step)), _Share(self._share(step))  # type: ignore[return-value]

    def _due(self, step: Any) -> Any:
        return self._should_prune_in_step(step, self.begin_step, self.end_step, self.frequency)

    @abstractmethod
    def _share(self, step: int) -> float: ...

    @abstractmethod
    def _share_in_graph(self, tf: Any, step: Any) -> Any: ...

    def last_due(self, step: int) -> int | None:
        return self._last_due(step, self.begin_step, self.end_step, self.frequency)


def _graph() -> Any:
    """Return TensorFlow inside one of its graphs, otherwise None."""
    import tensorflow as tf  # loaded already, since the step is not a number

    return None if tf.executing_eagerly() else tf


@dataclass(frozen=True)
class ConstantSparsity(_OfPeer):
    """The same sparsity from `begin_step` to `end_step`; masks change every `frequency` steps.

    Args:
        target_sparsity: Fraction of zeros, in [0, 1).
        begin_step: The first step that prunes.
        end_step: The last step that prunes; -1 means no end.
        frequency: Steps between two updates of the masks.

    Example:
        >>> schedule = ConstantSparsity(0.5, begin_step=100, frequency=10)
        >>> schedule(99), schedule(100), schedule(105)
        ((False, 0.5), (True, 0.5), (False, 0.5))
    """

    target_sparsity: float
    begin_step: int
    end_step: int = -1
    frequency: int = 100

    def __post_init__(self) -> None:
        self._validate_step(self.begin_step, self.end_step, self.frequency, True)
        self._validate_sparsity(self.target_sparsity, "target_sparsity")

    def _share(self, step: int) -> float:
        return self.target_sparsity

    def _share_in_graph(self, tf: Any, step: Any) -> Any:
        return tf.constant(self.target_sparsity, tf.float32)

    def final(self) -> float:
        return self.target_sparsity


@dataclass(frozen=True)
class PolynomialDecay(_OfPeer):
    """From `initial_sparsity` to `final_sparsity`, fast at first and slower toward the end.

    s(t) = s_f + (s_i − s_f)·(1 − (t − t_0)/(t_1 − t_0))^power   (Zhu and Gupta, 2017)

    Args:
        initial_sparsity: Fraction of zeros at `begin_step`, in [0, 1).
        final_sparsity: Fraction of zeros from `end_step` on, in [0, 1).
        begin_step: t_0, the first step that prunes.
        end_step: t_1, the last step that prunes.
        power: How steep the beginning is; 1 is a straight line.
        frequency: Steps between two updates of the masks.

    Example:
        >>> schedule = PolynomialDecay(0.0, 0.8, begin_step=0, end_step=200, frequency=100)
        >>> [(due, round(sparsity, 3)) for due, sparsity in map(schedule, (0, 50, 100, 200))]
        [(True, 0.0), (False, 0.463), (True, 0.7), (True, 0.8)]
    """

    initial_sparsity: float
    final_sparsity: float
    begin_step: int
    end_step: int
    power: float = 3
    frequency: int = 100

    def __post_init__(self) -> None:
        self._validate_step(self.begin_step, self.end_step, self.frequency, False)
        if not _is_number(self.power) or not 0 < self.power < np.inf:
            raise OptionError(f"power: expected a positive number. Received {self.power!r}.")
        self._validate_sparsity(self.initial_sparsity, "initial_sparsity")
        self._validate_sparsity(self.final_sparsity, "final_sparsity")

    def _share(self, step: int) -> float:
        if step >= self.end_step:
            return self.final_sparsity
        # float32 throughout, as in tensorflow-model-optimization: the counts are then the same. Its
        # power is the correctly rounded one, which numpy's for float32 is not.
        steps = max(step - self.begin_step, 0)
        done = np.float32(steps) / np.float32(max(self.end_step - self.begin_step, 1))
        rest = np.float32(float(np.float32(1) - done) ** float(self.power))
        span = np.float32(self.initial_sparsity - self.final_sparsity)
        return float(span * rest + np.float32(self.final_sparsity))

    def _share_in_graph(self, tf: Any, step: Any) -> Any:
        steps = tf.cast(step - self.begin_step, tf.float32)
        done = tf.clip_by_value(steps / max(self.end_step - self.begin_step, 1), 0.0, 1.0)
        span = self.initial_sparsity - self.final_sparsity
        ramp = span * tf.pow(1 - done, self.power) + self.final_sparsity
        return tf.where(step >= self.end_step, self.final_sparsity, ramp)

    def final(self) -> float:
        return self.final_sparsity


@dataclass(frozen=True)
class OneShot(_BuiltIn):
    """All at once, now: for pruning after training, or for fixed masks during training.

    Args:
        target_sparsity: Fraction of zeros, in [0, 1).

    Example:
        >>> OneShot(0.5)(0), OneShot(0.5)(1)
        ((True, 0.5), (False, 0.5))
    """

    target_sparsity: float

    def __post_init__(self) -> None:
        self._validate_sparsity(self.target_sparsity, "target_sparsity")

    def __call__(self, step: int) -> tuple[bool, float]:
        return step == 0, self.target_sparsity

    def final(self) -> float:
        return self.target_sparsity

    def last_due(self, step: int) -> int | None:
        return 0


@dataclass(frozen=True)
class Geometric(_BuiltIn):
    """Rounds of pruning with training between, each keeping the same share of the nonzeros.

    After round r of R the kept fraction is (1 − final_sparsity)^(r/R).

    Args:
        final_sparsity: Fraction of zeros after the last round, in [0, 1).
        rounds: How many times to prune.
        round_steps: Training steps between two rounds.
        begin_step: The step of the first round.

    Example:
        >>> schedule = Geometric(0.75, rounds=2, round_steps=100)
        >>> schedule(0), schedule(50), schedule(100), schedule(200)
        ((True, 0.5), (False, 0.5), (True, 0.75), (False, 0.75))
    """

    final_sparsity: float
    rounds: int
    round_steps: int
    begin_step: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.rounds, int | np.integer) or self.rounds < 1:
            raise OptionError(f"rounds should be a whole number >= 1. Received {self.rounds!r}.")
        self._validate_step(self.begin_step, -1, self.round_steps, True)
        self._validate_sparsity(self.final_sparsity, "final_sparsity")

    def __call__(self, step: int) -> tuple[bool, float]:
        done = step - self.begin_step
        if done < 0:
            return False, 0.0
        number = min(done // self.round_steps + 1, self.rounds)
        due = done % self.round_steps == 0 and done // self.round_steps < self.rounds
        if number == self.rounds:
            return due, self.final_sparsity
        return due, float(1 - (1 - self.final_sparsity) ** (number / self.rounds))

    def final(self) -> float:
        return self.final_sparsity
