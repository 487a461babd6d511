"""Converting schedules of tensorflow-model-optimization to schedules of this package."""

from typing import Any

from tfprune.errors import type_name
from tfprune.sparsity.choices.schedules import ConstantSparsity, PolynomialDecay, PruningSchedule

_COUNTERPARTS = {kind.__name__: kind for kind in (PolynomialDecay, ConstantSparsity)}


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
