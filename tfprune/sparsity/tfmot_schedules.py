"""Schedules of tensorflow-model-optimization as schedules of this package, and from configs."""

from collections.abc import Iterator
from typing import Any

from tfprune.errors import ArtifactError, type_name
from tfprune.sparsity.choices.schedules import ConstantSparsity, PolynomialDecay, PruningSchedule

_COUNTERPARTS = {kind.__name__: kind for kind in (PolynomialDecay, ConstantSparsity)}


def subclasses(kind: Any) -> Iterator[Any]:
    """Yield the subclasses of a class, and theirs."""
    for subclass in kind.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def schedule_from_config(config: Any) -> PruningSchedule:
    """Return the schedule that a config of `get_config` stands for.

    Raises:
        ArtifactError: It has another form, or no class of its name is defined.
    """
    if not isinstance(config, dict) or not {"class_name", "config"} <= set(config):
        raise ArtifactError(
            "get_config() of a schedule returns {'class_name': …, 'config': …}. "
            f"Received {config!r}."
        )
    for kind in subclasses(PruningSchedule):
        if kind.__name__ == config["class_name"]:
            schedule: PruningSchedule = kind.from_config(config["config"])
            return schedule
    raise ArtifactError(
        f"the schedule {config['class_name']!r} is no subclass of tfprune.PruningSchedule that is "
        "defined here; import the module that defines it"
    )


def schedule_from_tfmot(schedule: Any) -> PruningSchedule:
    """Return tfprune's counterpart of a schedule of tensorflow-model-optimization."""
    kind = type(schedule)
    if (
        kind.__module__.startswith("tensorflow_model_optimization")
        and kind.__name__ in _COUNTERPARTS
    ):
        config = schedule.get_config()
        return _COUNTERPARTS[config["class_name"]](**config["config"])
    return _Evaluated(schedule)


class _Evaluated(PruningSchedule):
    """A user's subclass of tensorflow-model-optimization's schedule, with tensors as numbers."""

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
