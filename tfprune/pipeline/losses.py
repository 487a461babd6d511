"""The loss that a model is trained with, and what a compiled model says of its task."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from tfprune.data.feed import packed
from tfprune.data.model_inputs import known_inputs, leaves, mapped
from tfprune.errors import OptionError
from tfprune.keras_support.internals import to_snake_case
from tfprune.keras_support.models import compile_options
from tfprune.pipeline.datasets import Dataset
from tfprune.task.guess import guess_task
from tfprune.task.metrics import METRICS
from tfprune.task.task import Task

Loss = Callable[..., Any]

_KINDS = {
    "binary_crossentropy": "multi_label",
    "binary_focal_crossentropy": "multi_label",
    "circle": "retrieval",
    "circle_loss": "retrieval",
    **dict.fromkeys(
        ("mean_squared_error", "mse", "mean_absolute_error", "mae", "huber", "log_cosh", "logcosh",
         "mean_absolute_percentage_error", "mape", "mean_squared_logarithmic_error", "msle"),
        "regression",
    ),
    **dict.fromkeys(
        ("sparse_categorical_crossentropy", "categorical_crossentropy",
         "categorical_focal_crossentropy"),
        "classification",
    ),
}  # fmt: skip
"""The kind of task of a loss of Keras, by name."""

_ONE_HOT = ("categorical_crossentropy", "categorical_focal_crossentropy")
"""Losses that take one-hot labels; those of a run are class numbers."""

_METRICS = {
    "mean_absolute_error": "mae", "mean_squared_error": "mse", "root_mean_squared_error": "rmse",
    "r2_score": "r2", "mean_io_u": "mean_iou", "one_hot_mean_io_u": "mean_iou",
    "f1_score": "f1", "binary_accuracy": "label_accuracy", "acc": "accuracy",
    "sparse_categorical_accuracy": "accuracy", "categorical_accuracy": "accuracy",
}  # fmt: skip
"""Names of Keras's metrics, and ours."""


def output_names(model: keras.Model) -> list[str]:
    """Return the names of the outputs; a Sequential has one, without a name."""
    return list(getattr(model, "output_names", None) or ["output"])


@dataclass(frozen=True)
class Compiled:
    """What a compiled model says: its task, its optimizer, and metrics that have no counterpart."""

    task: Task
    optimizer: Any
    unknown: tuple[str, ...] = ()


def compiled_with(model: keras.Model, labels: Any) -> Compiled | None:
    """Return what a model was compiled with; None if it was not, or without a loss.

    The labels, as they were given, show the kind of task where a loss of the user's own does not.
    """
    options = compile_options(model)
    loss = options.get("loss")
    if loss is None:
        return None
    names, shapes = output_names(model), [tuple(out.shape) for out in model.outputs]
    unknown: list[str] = []
    if len(names) == 1:
        (one,) = keras.tree.flatten(loss)
        task = _task_of(one, shapes[0], labels, _flat(options.get("metrics")), unknown)
        return Compiled(task, options["optimizer"], tuple(unknown))
    losses, weights, metrics = (
        _by_output(options.get(key), names) for key in ("loss", "loss_weights", "metrics")
    )
    parts = {}
    for name, shape in zip(names, shapes, strict=True):
        given = labels.get(name) if isinstance(labels, Mapping) else None
        part = _task_of(losses[name], shape, given, _flat(metrics[name]), unknown)
        weight = weights[name]
        parts[name] = part if weight is None else replace(part, weight=float(weight))
    return Compiled(Task(outputs=parts), options["optimizer"], tuple(unknown))


def loss_names(model: keras.Model) -> list[str]:
    """Return the name of the loss of each output, "" for one without; none if there is no loss."""
    loss, names = compile_options(model).get("loss"), output_names(model)
    if loss is None:
        return []
    each = _by_output(loss, names).values() if len(names) > 1 else keras.tree.flatten(loss)
    return ["" if one is None else _name(one) for one in each]


def shows_task(loss: str) -> bool:
    """Return whether the name of a loss shows the kind of task."""
    return loss in _KINDS


def _by_output(given: Any, names: list[str]) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {name: given.get(name) for name in names}
    if isinstance(given, list | tuple) and len(given) == len(names):
        return dict(zip(names, given, strict=True))
    return dict.fromkeys(names, given)


def _flat(metrics: Any) -> list[Any]:
    return [one for one in keras.tree.flatten(metrics) if one is not None]


def _task_of(
    loss: Any, shape: tuple[int | None, ...], labels: Any, metrics: list[Any], unknown: list[str]
) -> Task:
    name = _name(loss)
    kind = _KINDS.get(name)
    if kind is None or (kind == "regression" and _are_classes(labels, shape)):
        if kind is not None:
            unknown.append(f"loss {name}")  # a distance to class numbers
            loss = None
        kind = guess_task(labels).name if labels is not None else "custom"
    if kind == "multi_label" and shape[-1] == 1:
        kind = "classification"
    if kind == "classification" and len(shape) > 2:
        kind = {3: "tagging", 4: "segmentation"}.get(len(shape), kind)
    found = []
    for metric in metrics:
        title = _METRICS.get(_name(metric), _name(metric))
        title = "accuracy" if kind == "classification" and title == "label_accuracy" else title
        title = "label_accuracy" if kind == "multi_label" and title == "accuracy" else title
        if title in METRICS and Task(kind).kind.form in METRICS[title].forms:
            found.append(title)
        else:
            unknown.append(f"metric {_name(metric)}")
    config = loss.get_config() if isinstance(loss, keras.Loss) else {}
    logits = config.get("from_logits") if "crossentropy" in name else None
    if isinstance(loss, str) and "crossentropy" in name:
        logits = False
    ignore = config.get("ignore_class") if kind != "multi_label" else None
    return Task(kind, metrics=found, loss=loss, from_logits=logits, ignore=ignore)


def _are_classes(labels: Any, shape: tuple[int | None, ...]) -> bool:
    """Return whether labels are class numbers of an output, and not what it should return."""
    if labels is None or isinstance(labels, Mapping):
        return False
    labels = np.asarray(labels)
    one_each = labels.size == len(labels) and (shape[-1] or 1) > 1 and len(shape) == 2
    return one_each and guess_task(labels).name == "classification"


def _name(thing: Any) -> str:
    if isinstance(thing, str):
        return thing
    if isinstance(thing, keras.Loss | keras.Metric):
        return str(to_snake_case(type(thing).__name__))
    return str(getattr(thing, "__name__", type(thing).__name__))


def losses_of(
    model: keras.Model, data: Dataset, label_weights: np.ndarray | None = None
) -> tuple[Any, Any, Any]:
    """Return loss, weights of losses and metrics for `compile`.

    `label_weights` are how much the loss of each label counts where it is 0, and where it is 1.
    """
    task = data.task
    if not task.outputs:
        loss = loss_for(task, model, data, None)
        loss = loss if label_weights is None else _weighted(loss, label_weights)
        return loss, None, _curves(task)
    names = list(task.outputs)
    return (
        {name: loss_for(task.outputs[name], model, data, name) for name in names},
        {name: task.outputs[name].weight for name in names},
        {name: _curves(task.outputs[name]) for name in names},
    )


def _curves(task: Task) -> list[str]:
    if task.ignore is not None:
        return []  # Keras's would count what is ignored
    curves = [measure.metric.curve for measure in task.measures]
    return list(dict.fromkeys(curve for curve in curves if curve))


def loss_for(task: Task, model: keras.Model, data: Dataset, output: str | None) -> Any:
    """Return the loss of one output.

    Raises:
        OptionError: The task has none.
    """
    if isinstance(task.loss, keras.Loss) or callable(task.loss):
        return _from_class_numbers(task.loss) if _name(task.loss) in _ONE_HOT else task.loss
    name = task.loss or task.kind.loss
    if not name:
        raise OptionError(
            "task loss: a custom task has no loss of its own; give loss=, or compile the model"
        )
    if task.kind.form == "classes" and not task.loss:
        one = _last(model, output) == 1
        name = "binary_crossentropy" if one else name
    try:
        loss = keras.losses.get(name)
    except ValueError:
        raise OptionError(f"task loss: Keras has no loss {name!r}") from None
    if task.kind.form == "embeddings" and not task.loss:
        return _on_a_sphere(loss)
    if "crossentropy" not in name:
        return loss if callable(loss) and not isinstance(loss, type) else loss()
    kind = type(keras.losses.get({"class_name": _class_of(name), "config": {}}))
    options: dict[str, Any] = {"from_logits": not gives_probabilities(model, data, output)}
    if task.from_logits is not None:
        options["from_logits"] = task.from_logits
    if name == "sparse_categorical_crossentropy" and task.ignore is not None:
        options["ignore_class"] = task.ignore
    made = kind(**options)
    return _from_class_numbers(made) if name in _ONE_HOT else made


def _class_of(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _from_class_numbers(loss: Any) -> Loss:
    """Return a loss of one-hot labels that takes class numbers."""

    def one_hot_loss(labels: Any, outputs: Any) -> Any:
        flat = keras.ops.reshape(labels, keras.ops.shape(outputs)[:-1])
        one_hot = keras.ops.one_hot(keras.ops.cast(flat, "int32"), outputs.shape[-1])
        return keras.losses.get(loss)(one_hot, outputs)

    return one_hot_loss


def _weighted(loss: Any, weights: np.ndarray) -> Loss:
    """Return a loss of several labels that weights each of them by its truth."""
    each_loss = loss.call if isinstance(loss, keras.Loss) else loss

    def weighted_loss(labels: Any, outputs: Any) -> Any:
        # A loss is the mean over the last axis, which here holds one label.
        each = each_loss(labels[..., None], outputs[..., None])
        absent, present = (keras.ops.cast(row, each.dtype) for row in weights)
        return keras.ops.mean(each * keras.ops.where(labels > 0.5, present, absent), axis=-1)

    return weighted_loss


def _on_a_sphere(loss: Loss) -> Loss:
    """Return a loss of vectors of length 1 that takes any, as recall compares them by cosine."""

    def loss_by_cosine(labels: Any, outputs: Any) -> Any:
        return loss(labels, keras.ops.normalize(outputs, axis=-1))

    return loss_by_cosine


def _last(model: keras.Model, output: str | None) -> int | None:
    place = 0 if output is None else output_names(model).index(output)
    return model.outputs[place].shape[-1]


LARGE = 1e4
"""Factor for examples on which a logit leaves [0, 1]."""


def gives_probabilities(model: keras.Model, data: Dataset, output: str | None = None) -> bool:
    """Return whether outputs are in [0, 1] and, if there are several classes, sum to 1.

    A single logit may be in [0, 1] by chance: much larger examples tell it.
    """
    task = data.task if output is None else data.task.outputs[output]
    examples = packed(data.train.head.first(32).x, known_inputs(model), data.name)
    outputs = _outputs(model, examples, output)
    inside = bool((outputs >= 0).all())
    if task.kind.form == "decisions" or outputs.shape[-1] == 1:
        if any(array.dtype.kind == "f" for array in leaves(examples)):
            large = [mapped(_times(factor), examples) for factor in (LARGE, -LARGE)]
            outputs = np.concatenate([outputs, *(_outputs(model, x, output) for x in large)])
        return bool((outputs >= 0).all() and (outputs <= 1).all())
    return inside and np.allclose(outputs.sum(axis=-1), 1, atol=1e-2)


def task_of_model(model: keras.Model, data: Dataset) -> Task:
    """Return the task of a run, which says where a single output is a logit."""
    task = data.task

    def told(part: Task, output: str | None) -> Task:
        single = part.kind.form == "decisions" or (
            part.kind.form == "classes" and _last(model, output) == 1
        )
        if part.from_logits is not None or not single:
            return part
        return replace(part, from_logits=not gives_probabilities(model, data, output))

    if task.outputs:
        return replace(task, outputs={n: told(part, n) for n, part in task.outputs.items()})
    return told(task, None)


def _times(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: array * np.float32(factor) if array.dtype.kind == "f" else array


def _outputs(model: keras.Model, examples: Any, output: str | None) -> np.ndarray:
    found = model(examples, training=False)
    if output is not None:
        place = output_names(model).index(output)
        found = found[output] if isinstance(found, Mapping) else keras.tree.flatten(found)[place]
    return np.asarray(keras.ops.convert_to_numpy(found), np.float32)
