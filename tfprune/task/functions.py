"""Metrics that are functions of the user's own, of the labels and outputs of all samples."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfprune.data.model_inputs import leaves, mapped
from tfprune.errors import DataError, OptionError
from tfprune.task.answers import Answers
from tfprune.task.metrics import Metric


@dataclass
class Whole:
    """Calls a function once, with all labels and outputs, which are kept until then."""

    function: Callable[..., Any]
    found: list[Any] = field(default_factory=list)
    truth: list[Any] = field(default_factory=list)

    def add(self, answers: Answers) -> None:
        self.found.append(answers.found)
        self.truth.append(answers.truth)

    def value(self) -> float:
        # A keras.metrics.Metric accumulates over files unless it is reset.
        reset = getattr(self.function, "reset_state", lambda: None)
        outputs = mapped(lambda array: array.astype(np.float32), _joined(self.found))
        reset()
        value = np.asarray(self.function(_joined(self.truth), outputs))
        reset()
        if value.size != 1 or value.dtype.kind not in "biuf":
            raise DataError(
                f"the metric returned {value.dtype} numbers of shape {value.shape}; "
                "it must return one number, such as their mean"
            )
        return float(value.reshape(()))


def _joined(batches: list[Any]) -> Any:
    columns = iter([np.concatenate(column) for column in zip(*map(leaves, batches), strict=True)])
    return mapped(lambda _: next(columns), batches[0])


def function_metric(function: Any, higher_is_better: bool | None) -> Metric:
    """Return a function as a metric.

    Raises:
        OptionError: It is no function, or its direction is not known.
    """
    if not callable(function):
        raise OptionError(
            "task metrics: expected names of metrics or functions of (labels, outputs). "
            f"Received {function!r}"
        )
    title = str(getattr(function, "__name__", None) or getattr(function, "name", "metric"))
    higher = getattr(function, "higher_is_better", higher_is_better)
    if not isinstance(higher, bool):
        raise OptionError(
            f"task metrics: {title} has no direction; give higher_is_better=True or False"
        )
    return Metric(
        title,
        "a function of the user's own",
        ("any",),
        lambda: Whole(function),
        higher_is_better=higher,
    )
