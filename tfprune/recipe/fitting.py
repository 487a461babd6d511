"""The keys of a recipe that say how a model is trained, in every table that trains one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfprune.errors import nearest
from tfprune.recipe.kinds import (
    NAMES,
    NOT_NEGATIVE,
    POSITIVE,
    Kind,
    Refused,
    Table,
    named,
    option,
    whole,
)
from tfprune.recipe.sources import is_function

OPTIMIZERS = (
    "adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion", "muon",
    "nadam", "rmsprop", "sgd",
)  # fmt: skip
SCHEDULES = (
    "constant", "cosine_decay", "cosine_decay_restarts", "exponential_decay",
    "inverse_time_decay", "piecewise_constant_decay", "polynomial_decay",
)  # fmt: skip


def _optimizer(value: object) -> object:
    found = named(value, OPTIMIZERS)
    if isinstance(found, dict) and "learning_rate" in found:
        raise Refused("Give learning_rate as a key of its own, beside optimizer.")
    return found


OPTIMIZER = Kind(
    f"an optimizer of Keras ({', '.join(OPTIMIZERS)}), or a table of its name and arguments, such "
    'as { name = "sgd", momentum = 0.9, weight_decay = 1e-4 }',
    _optimizer,
)


def _rate(value: object) -> object:
    return named(value, SCHEDULES) if isinstance(value, Mapping) else POSITIVE.read(value)


RATE = Kind(
    f"a number above 0, or a table of a schedule ({', '.join(SCHEDULES)}) and its arguments, such "
    'as { name = "exponential_decay", initial_learning_rate = 1e-3, decay_rate = 0.9 }',
    _rate,
)


def _early_stopping(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {"patience": whole(1).read(value)}
    kinds = {"patience": whole(1), "min_delta": NOT_NEGATIVE}
    unknown = [str(key) for key in value if key not in kinds]
    if unknown or "patience" not in value:
        raise Refused(nearest(unknown[0], kinds) if unknown else "")
    return {key: kinds[key].read(given) for key, given in value.items()}


EARLY_STOPPING = Kind(
    "a number of epochs, or a table such as { patience = 3, min_delta = 0.001 }", _early_stopping
)


def _class_weight(value: object) -> object:
    if value == "balanced":
        return value
    if not isinstance(value, Mapping) or not value:
        raise Refused
    for label in value:
        whole(0).read(int(label) if str(label).isdecimal() else label)
    return {str(label): NOT_NEGATIVE.read(weight) for label, weight in value.items()}


CLASS_WEIGHT = Kind(
    '"balanced", or a table of classes and their weights, such as { 0 = 1.0, 1 = 5.0 }',
    _class_weight,
)


def _function(value: object) -> str:
    if not isinstance(value, str) or not is_function(value):
        raise Refused
    return value


FUNCTION_NAME = Kind("a function, package.module:name", _function)


def _functions(value: object) -> tuple[str, ...]:
    return tuple(map(_function, NAMES.read(value)))


FUNCTION_NAMES = Kind("a list of functions or classes, package.module:name each", _functions)


@dataclass(frozen=True, kw_only=True)
class Fitting(Table):
    """How a model is trained; what a table leaves unset is as in [train]."""

    optimizer: str | Mapping[str, Any] | None = option(
        OPTIMIZER,
        "the optimizer; default: that of [train], of a compiled model, or adam",
        None,
        former=("adam",),
    )
    early_stopping: Mapping[str, Any] | None = option(
        EARLY_STOPPING,
        "stop after this many epochs without a better metric of the task on the validation set, "
        "and keep the best weights; of pruning, those after the end of the schedule",
        None,
    )
    class_weight: str | Mapping[str, float] | None = option(
        CLASS_WEIGHT,
        "how much the samples of each class, or with each label, count; others count 1",
        None,
    )
    callbacks: tuple[str, ...] | None = option(
        FUNCTION_NAMES, "called without arguments, each returns a Keras callback", None
    )
    steps_per_epoch: int | None = option(
        whole(1), "steps of an epoch; default: as many as the training set has batches", None
    )
    backup_steps: int | None = option(
        whole(1),
        "a training is stored, for --resume, after so many steps of an epoch too; default: after "
        "each epoch",
        None,
    )
    fit: str | None = option(
        FUNCTION_NAME,
        "your own training, called as fit(model, data, callbacks, epochs=…, batch_size=…) with the "
        "compiled model; it must call the callbacks as model.fit does",
        None,
    )

    def unread(self) -> dict[str, str]:
        """Return what the user's own function reads elsewhere."""
        if self.fit is None:
            return {}
        return {
            "class_weight": "is not passed on to fit; use it there",
            "backup_steps": "is not for your own fit, which is stored after each epoch",
        }
