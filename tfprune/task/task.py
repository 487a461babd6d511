"""Tasks: what good means for a model."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any

import numpy as np

from tfprune.data.model_comparison import is_whole, same_answers
from tfprune.errors import OptionError, nearest, type_name
from tfprune.task import answers
from tfprune.task.answers import Answers, Reading
from tfprune.task.functions import function_metric
from tfprune.task.metrics import METRICS, Metric
from tfprune.utils.registry import Registry

FORMS: dict[str, Callable[..., Answers]] = {
    "classes": answers.classes,
    "numbers": answers.numbers,
    "decisions": answers.decisions,
    "scores": answers.scores,
    "embeddings": answers.embeddings,
}
"""The forms of answers; each metric reads some of them."""

ANY = "any"
"""The form of the user's functions: outputs and labels as they are."""


@dataclass(frozen=True)
class Kind:
    """A built-in kind of task.

    Attributes:
        summary: What it is, in one line.
        form: The form of its answers.
        metrics: Its metrics; the first is the one that gates use.
        loss: A loss of Keras, by name.
        labels: What the labels are, for messages.
        from_inputs: Whether outputs are compared with the inputs, as those of an autoencoder.
    """

    summary: str
    form: str
    metrics: tuple[str, ...]
    loss: str
    labels: str
    from_inputs: bool = False


TASKS: Registry[Kind] = Registry("task")

_CROSS_ENTROPY = "sparse_categorical_crossentropy"
_KINDS = {
    "classification": Kind(
        "one class for each sample", "classes", ("accuracy",), _CROSS_ENTROPY,
        "class numbers or one-hot",
    ),
    "imbalanced_classification": Kind(
        "one class for each sample, where some classes are rare", "classes",
        ("balanced_accuracy", "f1", "accuracy"), _CROSS_ENTROPY, "class numbers or one-hot",
    ),
    "multi_label": Kind(
        "several labels for each sample, each 0 or 1", "decisions", ("f1", "label_accuracy"),
        "binary_crossentropy", "0 or 1 for each label",
    ),
    "regression": Kind(
        "numbers for each sample", "numbers", ("mae", "rmse", "r2"), "mse",
        "numbers in the shape of the output",
    ),
    "segmentation": Kind(
        "a class for each pixel", "classes", ("mean_iou", "pixel_accuracy"), _CROSS_ENTROPY,
        "a class number for each pixel",
    ),
    "tagging": Kind(
        "a class for each step of a sequence", "classes", ("accuracy",), _CROSS_ENTROPY,
        "a class number for each step",
    ),
    "language_modeling": Kind(
        "the next token", "classes", ("perplexity", "accuracy"), _CROSS_ENTROPY,
        "the number of the next token",
    ),
    "autoencoder": Kind(
        "the input itself", "numbers", ("mse", "mae"), "mse", "the inputs", from_inputs=True
    ),
    "anomaly": Kind(
        "whether a sample is unlike those of the training, by the error of an autoencoder",
        "scores", ("auc",), "mse", "1 for an anomaly and 0 for others", from_inputs=True,
    ),
    "retrieval": Kind(
        "vectors that are near each other within a group", "embeddings",
        ("recall_at_1", "recall_at_5"), "circle", "the number of the group",
    ),
    "custom": Kind(
        "anything: metrics and loss are the user's own", ANY, (), "", "whatever the metrics take"
    ),
}  # fmt: skip
for _name, _kind in _KINDS.items():
    TASKS.register(_name)(_kind)


@dataclass(frozen=True)
class Measure:
    """One metric of a task, with its name in reports, and the output that it is of."""

    title: str
    metric: Metric
    unit: str = ""
    output: str | None = None


@dataclass(frozen=True)
class Task:
    """What good means for a model: its loss, its metrics, the form of its labels.

    Args:
        name: A kind of task: `classification`, `imbalanced_classification`, `multi_label`,
            `regression`, `segmentation`, `tagging`, `language_modeling`, `autoencoder`, `anomaly`,
            `retrieval`, or `custom` for metrics that are all your own.
        metrics: Names of metrics, or functions of the labels and the outputs of all samples that
            return a number; the first is the one that gates use. None: those of the kind.
        loss: A loss as in `compile`. None: that of the kind.
        ignore: A label that is not counted and not trained on, such as that of padding.
        from_logits: Whether outputs are logits, not probabilities. None: told from the outputs.
        unit: The unit of the labels, for reports: "kg".
        higher_is_better: The direction of the functions in `metrics`, unless each has an attribute
            of this name.
        outputs: For a model with several outputs: a task, or its name, for each; `name` then has
            no meaning. The first metric of the first output is the one that gates use.
        weight: The weight of its loss among several outputs.

    Raises:
        OptionError: An unknown name, a metric that does not fit, a function without a direction.

    Example:
        >>> Task("regression", metrics=["rmse"], unit="kg").measures[0].title
        'RMSE'
        >>> task = Task(outputs={"digit": "classification", "box": Task("regression", weight=0.5)})
        >>> [measure.title for measure in task.measures]
        ['digit accuracy', 'box MAE', 'box RMSE', 'box R²']
    """

    name: str = "classification"
    _: KW_ONLY
    metrics: Sequence[Any] = ()
    loss: Any = None
    ignore: int | None = None
    from_logits: bool | None = None
    unit: str = ""
    higher_is_better: bool | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0

    def __post_init__(self) -> None:
        kind = TASKS[self.name]
        if isinstance(self.metrics, str) or not isinstance(self.metrics, Sequence):
            raise OptionError(
                f"task metrics: expected a list of metrics. Received {self.metrics!r}"
            )
        object.__setattr__(self, "metrics", tuple(self.metrics))
        if not isinstance(self.outputs, Mapping):
            raise OptionError(
                f"task outputs: expected a task for each output. Received {self.outputs!r}"
            )
        parts = {name: as_task(part, f"task {name}") for name, part in self.outputs.items()}
        object.__setattr__(self, "outputs", parts)
        for name, part in parts.items():
            if part.outputs:
                raise OptionError(f"task {name}: an output has no outputs of its own")
        if not (isinstance(self.weight, int | float) and self.weight >= 0):
            raise OptionError(f"task weight: expected a number >= 0. Received {self.weight!r}")
        if not self.measures:
            raise OptionError(f"task {self.name}: it has no metric; give metrics=[...]")
        if self.ignore is not None and not self.outputs and kind.form != "classes":
            raise OptionError(f"task ignore: only for class numbers, not for {self.name}")

    @property
    def kind(self) -> Kind:
        """Return the kind."""
        return TASKS[self.name]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Return the metrics; the first is the one that gates use."""
        parts = [
            replace(one, title=f"{name} {one.title}", output=name)
            for name, part in self.outputs.items()
            for one in part.measures
        ]
        if self.outputs:
            own = [self._measure(metric) for metric in self.metrics]
            return (*own, *parts)
        return tuple(self._measure(metric) for metric in self.metrics or self.kind.metrics)

    @property
    def reading(self) -> Reading:
        """Return how its outputs are read."""
        return Reading(self.ignore, self.from_logits)

    @property
    def named(self) -> str:
        """Return its name for messages."""
        if not self.outputs:
            return self.name
        return ", ".join(f"{name}: {part.name}" for name, part in self.outputs.items())

    def agreement(self, expected: np.ndarray, actual: np.ndarray) -> np.ndarray | None:
        """Return where two outputs give the same answer; None if answers are numbers."""
        form = self.kind.form
        if form == "classes":
            return same_answers(expected, actual)
        if form == "decisions":
            limit = 0.0 if self.from_logits else 0.5
            one, other = (x if is_whole(x) else x > limit for x in (expected, actual))
            return np.asarray(one == other)
        return None

    def _measure(self, metric: Any) -> Measure:
        form = ANY if self.outputs else self.kind.form
        if isinstance(metric, str):
            found = METRICS[metric]
            if form not in found.forms:
                fitting = [name for name in METRICS if form in METRICS[name].forms]
                raise OptionError(
                    f"task metrics: {metric!r} is not for {self.named}. "
                    f"{nearest(metric, fitting) if fitting else 'Give functions.'}"
                )
        elif isinstance(metric, Metric):
            found = metric
        else:
            found = function_metric(metric, self.higher_is_better)
        # A square has another unit, and a share has none.
        unit = self.unit if metric in ("mae", "rmse") or callable(metric) else ""
        return Measure(found.title, found, unit)


def as_task(given: Any, option: str = "task") -> Task:
    """Return a task; a name stands for one without options.

    Raises:
        OptionError: It is neither.
    """
    if isinstance(given, Task):
        return given
    if isinstance(given, str):
        return Task(given)
    raise OptionError(f"{option}: expected a Task or the name of one. Received {type_name(given)}")


def task_for(metric: Any) -> Task:
    """Return the task of one metric: a name, or a function for which higher is better.

    Raises:
        OptionError: It is neither.
    """
    if isinstance(metric, str) and metric in METRICS:
        kinds = [name for name in TASKS if TASKS[name].form in METRICS[metric].forms]
        return Task(kinds[0], metrics=[metric])
    if isinstance(metric, str) or not callable(metric):
        raise OptionError(
            "metric: expected the name of a metric or a function of (labels, outputs). "
            f"Received {metric!r}. {nearest(str(metric), METRICS)}"
        )
    return Task("custom", metrics=[metric], higher_is_better=True)
