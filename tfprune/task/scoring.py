"""The scores of one file on a task, batch by batch."""

from dataclasses import replace
from typing import Any

import numpy as np

from tfprune.errors import DataError
from tfprune.task.answers import Answers, reconstruction_error
from tfprune.task.task import ANY, FORMS, Task


def settled(task: Task, outputs: dict[str, np.ndarray]) -> Task:
    """Return a task that knows whether outputs are logits, told from those of one batch.

    A single output out of [0, 1] stays unknown: it may be a class, a number or a logit.
    """
    if task.outputs:
        parts = {name: settled(part, {name: outputs[name]}) for name, part in task.outputs.items()}
        return replace(task, outputs=parts)
    (found,) = outputs.values() if len(outputs) == 1 else (None,)
    form = task.kind.form
    if task.from_logits is not None or found is None or found.dtype.kind != "f":
        return task
    if form == "decisions":
        return replace(task, from_logits=bool(found.min() < 0 or found.max() > 1))
    if form == "classes" and found.ndim > 1 and found.shape[-1] > 1:
        rows = bool((found >= 0).all()) and np.allclose(found.sum(-1), 1, atol=0.02)
        return replace(task, from_logits=not rows)
    return task


class Scoring:
    """Adds up the metrics of one file."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._measures = [(measure, measure.metric.tally()) for measure in task.measures]
        self._seen: set[int] = set()
        self._counted = 0

    def add(self, outputs: dict[str, np.ndarray], labels: Any, inputs: Any, first: int) -> None:
        """Count one batch.

        Args:
            outputs: By name; a single one for a task without `outputs`.
            labels: An array, or a dict of them.
            inputs: The inputs of the batch, for tasks whose outputs are compared with them.
            first: The number of the first sample, for errors.
        """
        read = {
            name: self._read(name, outputs, labels, inputs, first)
            for name in (self._task.outputs or [None])
        }
        raw = self._raw(outputs, labels)
        for measure, tally in self._measures:
            tally.add(raw if measure.metric.forms == (ANY,) else read[measure.output])
        first_answers = next(iter(read.values()))
        if first_answers.classes and self._task.kind.form == "classes":
            self._seen.update(map(int, np.unique(first_answers.truth)))
            self._counted += first_answers.truth.size

    def values(self) -> tuple[float, ...]:
        """Return one number for each metric of the task.

        Raises:
            DataError: A metric is not a finite number.
        """
        values = []
        for _, tally in self._measures:
            value = tally.value()
            if not np.isfinite(value):
                raise DataError(f"the metric returned {value}; it must return a finite number")
            values.append(value)
        return tuple(values)

    def one_class(self) -> str:
        """Return a note if all labels are of one class; else an empty text."""
        if self._counted < 2 or len(self._seen) != 1:
            return ""
        (only,) = self._seen
        title = self._task.measures[0].title
        return f"all {self._counted} labels are {only}: {title} does not cover the other classes"

    def _read(
        self, name: str | None, outputs: Any, labels: Any, inputs: Any, first: int
    ) -> Answers:
        task = self._task.outputs[name] if name is not None else self._task
        found = outputs[name] if name is not None else next(iter(outputs.values()))
        truth = labels
        if name is not None:
            if not isinstance(labels, dict) or name not in labels:
                raise DataError(f"labels: expected a dict with those of output {name!r}")
            truth = labels[name]
        if task.kind.form == ANY:
            return Answers(found, truth)
        if task.name == "anomaly":
            found = reconstruction_error(found, _only(inputs))
        elif task.kind.from_inputs:
            truth = _only(inputs)
        if truth is None:
            raise DataError("data=: there are no labels; give (inputs, labels)")
        return FORMS[task.kind.form](found, truth, task.reading, first=first)

    def _raw(self, outputs: dict[str, np.ndarray], labels: Any) -> Answers:
        single = len(outputs) == 1 and not self._task.outputs
        found: Any = next(iter(outputs.values())) if single else outputs
        return Answers(found, labels)


def _only(inputs: Any) -> np.ndarray:
    """Return the one input of an autoencoder."""
    arrays = list(inputs.values()) if isinstance(inputs, dict) else inputs
    if isinstance(arrays, list | tuple):
        if len(arrays) != 1:
            raise DataError(f"an autoencoder has one input. Received {len(arrays)}")
        arrays = arrays[0]
    return np.asarray(arrays)
