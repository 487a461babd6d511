"""Labels of a run in the form that its task takes, and checks that a model fits them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.errors import DataError
from tfprune.task.task import Task

WIDTH_OF_EMBEDDINGS = 64
"""The number of outputs of a built-in model for retrieval."""


def labels_for(task: Task, labels: Any, inputs: Any, name: str) -> Any:
    """Return the labels of a set as its task takes them.

    Args:
        task: The task.
        labels: An array, or a dict of arrays for a task with several outputs.
        inputs: The examples, for a task whose outputs are compared with them.
        name: The name of the set, for errors.

    Raises:
        DataError: One line, if labels are not of the task.
    """
    if task.outputs:
        if not isinstance(labels, Mapping) or set(labels) != set(task.outputs):
            found = ", ".join(map(str, labels)) if isinstance(labels, Mapping) else "one array"
            raise DataError(
                f"{name}: expected labels in a dict with the keys {', '.join(task.outputs)}. "
                f"Received {found}"
            )
        return {
            output: labels_for(part, labels[output], inputs, f"{name}: {output}")
            for output, part in task.outputs.items()
        }
    if isinstance(labels, Mapping):
        if task.name == "custom":
            return {key: _narrow(value) for key, value in labels.items()}
        raise DataError(
            f"{name}: labels of several outputs ({', '.join(labels)}); name a task for each: "
            "[task.outputs.NAME]"
        )
    form = task.kind.form
    if task.kind.from_inputs and isinstance(inputs, dict | list | tuple):
        raise DataError(f"{name}: {task.name} takes one input. Received {len(inputs)}")
    if task.name == "autoencoder":
        return inputs
    if form == "classes" and "classification" in task.name:
        return _class_numbers(labels, name)
    if form == "classes":
        return _whole(labels[..., 0] if labels.shape[-1] == 1 else labels, name, task.ignore)
    if form == "embeddings":
        return _whole(labels.reshape(len(labels)), name, None)
    if form in ("decisions", "scores"):
        wrong = (labels != 0) & (labels != 1)
        if wrong.any():
            first = int(np.argwhere(wrong)[0][0])
            raise DataError(
                f"{name} has label {labels[wrong][0]} at example {first}. {task.name} takes 0 or 1."
            )
        return labels.astype(np.float32) if form == "decisions" else labels.reshape(len(labels))
    return _narrow(labels[:, None] if form == "numbers" and labels.ndim == 1 else labels)


def _narrow(labels: Any) -> Any:
    """Return numbers in the 32 bits that models compute in."""
    kind = np.float32 if labels.dtype.kind == "f" else np.int32
    return labels.astype(kind)


def _whole(labels: NDArray, name: str, ignore: int | None) -> NDArray[np.int32]:
    wrong = (labels < 0) | (labels != np.floor(labels))
    if ignore is not None:
        wrong &= labels != ignore
    if wrong.any():
        first = int(np.argwhere(wrong)[0][0])
        hint = "" if labels.ndim > 1 else " For other numbers, name a task, such as regression."
        raise DataError(
            f"{name} has label {labels[wrong][0]} at example {first}. Class numbers are "
            f"0, 1, 2 …{hint}"
        )
    return labels.astype(np.int32)


def _class_numbers(labels: NDArray, name: str) -> NDArray[np.int32]:
    rows = labels.reshape(len(labels), -1)
    if rows.shape[1] == 1:
        return _whole(rows[:, 0], name, None)
    if not (np.isin(rows, (0, 1)).all() and (rows.sum(axis=1) == 1).all()):
        raise DataError(
            f"{name}: labels of shape {labels.shape} are not one-hot. Give one class number each, "
            "or name a task, such as multi_label."
        )
    return np.argmax(rows, axis=1).astype(np.int32)


def check_learnable(task: Task, labels: Any, name: str) -> None:
    """Raise if a model cannot learn from the labels of a training set."""
    if isinstance(labels, Mapping):
        for output, values in labels.items():
            check_learnable(task.outputs.get(output, task), values, f"{name}: {output}")
        return
    if task.name == "anomaly":
        if labels.any():
            raise DataError(
                f"{name}: {int(labels.sum())} examples of the train set are labeled 1; anomaly "
                "learns what is normal: remove them"
            )
        return
    only = labels.reshape(-1)[0]
    if (labels != only).any() or task.kind.from_inputs or task.name == "custom":
        return
    what = "a classifier needs at least two classes" if task.kind.form == "classes" else (
        "there is nothing to learn"
    )  # fmt: skip
    raise DataError(
        f"{name}: all labels of the train set are {only}; {what}. "
        "Shuffle the examples if they are sorted and data.limit cuts them."
    )


def width_of(task: Task, labels: Any, inputs: Any) -> Any:
    """Return the number of outputs of a model for these labels; a dict for several outputs."""
    if isinstance(labels, Mapping):
        return {
            name: width_of(task.outputs.get(name, task), values, inputs)
            for name, values in labels.items()
        }
    form = task.kind.form
    if task.kind.from_inputs:
        return inputs.shape[-1]
    if form == "embeddings":
        return WIDTH_OF_EMBEDDINGS
    if form == "classes":
        kept = labels if task.ignore is None else labels[labels != task.ignore]
        return 1 + int(kept.max(initial=0))
    return labels.shape[-1] if labels.ndim > 1 else 1


def check_output(
    task: Task, labels: Any, shape: tuple[int | None, ...], name: str, model: str
) -> None:
    """Raise unless an output of a model fits the labels of a set.

    Args:
        task: The task of the output.
        labels: The labels of the set.
        shape: The shape of the output, with the batch.
        name: The name of the set, for errors.
        model: The name of the model and its output, for errors.
    """
    form = task.kind.form
    if form == "classes":
        rank, last = labels.ndim + 1, shape[-1]
        sizes = zip(shape[1:-1], labels.shape[1:], strict=False)
        if len(shape) != rank or last is None or any(a not in (None, b) for a, b in sizes):
            raise DataError(f"{model}: output of shape {shape}; {name} has labels of shape "
                            f"{labels.shape}.")  # fmt: skip
        _check_classes(task, labels, last, name, model)
    elif form in ("numbers", "decisions"):
        wanted = labels.shape[1:]
        if len(shape) != labels.ndim or any(
            size not in (None, given) for size, given in zip(shape[1:], wanted, strict=True)
        ):
            what = "the inputs" if task.kind.from_inputs else "labels"
            raise DataError(
                f"{model}: output of shape {shape}; {name} has {what} of shape {labels.shape}."
            )


def _check_classes(task: Task, labels: Any, outputs: int, name: str, model: str) -> None:
    # One output is that of a classifier of two classes, 0 and 1.
    limit = 2 if outputs == 1 else outputs
    wrong = labels >= limit
    if task.ignore is not None:
        wrong &= labels != task.ignore
    if wrong.any():
        first = int(np.argwhere(wrong)[0][0])
        raise DataError(
            f"{name} has label {labels[wrong][0]} at example {first}, "
            f"{model} has {outputs} outputs, for labels 0 to {limit - 1}. "
            "Correct the labels, or give the model more outputs."
        )
