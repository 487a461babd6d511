"""The table [task] of a recipe, and the task that it describes."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfprune.errors import OptionError, nearest
from tfprune.recipe.kinds import (
    NOT_NEGATIVE,
    TEXT,
    YES_OR_NO,
    Faults,
    Kind,
    Refused,
    Table,
    option,
    registered,
)  # fmt: skip
from tfprune.recipe.sources import is_function
from tfprune.recipe.user_code import import_function
from tfprune.task.metrics import METRICS
from tfprune.task.task import TASKS, Task


def _metrics(value: object) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        raise Refused
    for name in given:
        if not isinstance(name, str) or not (name in METRICS or is_function(name)):
            raise Refused(nearest(str(name), METRICS))
    return tuple(given)


_METRICS = Kind("a list of names of metrics, or package.module:function", _metrics, (METRICS,))


def _label(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused
    return value


_LABEL = Kind("a whole number", _label)


def _outputs(value: object) -> dict[str, Any]:
    """Return a table for each output, each checked like [task] itself."""
    if not isinstance(value, Mapping) or not value:
        raise Refused
    fields = {field.name: field for field in dataclasses.fields(TaskTable)}
    parsed = {}
    for output, keys in value.items():
        if isinstance(keys, str):
            keys = {"name": keys}
        if not isinstance(keys, Mapping):
            raise Refused(f"{output} is neither the name of a task nor a table of its keys.")
        for key, given in keys.items():
            if key not in fields or key == "outputs":
                known = [name for name in fields if name != "outputs"]
                raise Refused(f"{output} has an unknown key {key!r}. {nearest(key, known)}")
            kind = fields[key].metadata["kind"]
            try:
                kind.read(given)
            except Refused as hint:
                raise Refused(f"{output} {key}: expected {kind.allowed}. {hint}".strip()) from None
        parsed[output] = dict(keys)
    return parsed


_OUTPUTS = Kind(
    'a task for each output, such as { digit = "classification", box = "regression" }', _outputs
)


@dataclass(frozen=True)
class TaskTable(Table):
    """What good means for the model. Without this table: told from the model or the labels."""

    name: str = option(registered(TASKS, "the name of a task"), "kind of task", "classification")
    metrics: tuple[str, ...] = option(
        _METRICS, "metrics, the first for the gates; default: those of the task", ()
    )
    loss: str | None = option(
        TEXT, "a loss of Keras, or package.module:function; default: that of the task", None
    )
    ignore: int | None = option(_LABEL, "label that is not counted and not trained on", None)
    from_logits: bool | None = option(
        YES_OR_NO, "whether outputs are logits; default: told from the outputs", None
    )
    unit: str | None = option(TEXT, "unit of the labels, for reports", None)
    higher_is_better: bool | None = option(YES_OR_NO, "direction of the functions in metrics", None)
    outputs: Mapping[str, Any] | None = option(
        _OUTPUTS, "a task for each output of the model; the first is for the gates", None
    )
    weight: float = option(NOT_NEGATIVE, "weight of the loss, among several outputs", 1.0)

    @property
    def is_share(self) -> bool:
        """Return whether the first metric is in [0, 1]; one that is a function may be anything."""
        if any(map(is_function, self.metrics)) or (self.outputs and _has_functions(self.outputs)):
            return False
        try:
            return task_of(self).measures[0].metric.share
        except OptionError:
            return False  # which `faults` reports

    def unread(self) -> dict[str, str]:
        """Return what several outputs have each, and the weight of a single one."""
        if self.outputs is None:
            return {"weight": "is only for one of several outputs"}
        return dict.fromkeys(
            ("name", "loss", "ignore", "from_logits", "unit", "weight"),
            "is for each of the outputs",
        )

    def faults(self) -> Faults:
        """Yield errors of metrics that are not for the task."""
        if any(map(is_function, self.metrics)) or (self.outputs and _has_functions(self.outputs)):
            return  # found when the functions are imported
        try:
            task_of(self)
        except OptionError as error:
            yield ("metrics", "name", "outputs"), f"{error}."


def _has_functions(outputs: Mapping[str, Any]) -> bool:
    return any(is_function(name) for keys in outputs.values() for name in keys.get("metrics", ()))


def task_of(table: TaskTable, *, part: bool = False) -> Task:
    """Return the task of a table, or of the `part` for one output; its functions are imported.

    Raises:
        OptionError: A metric is not for the task, has no direction, or cannot be imported.
    """
    options = {
        field.name: getattr(table, field.name)
        for field in dataclasses.fields(table)
        if getattr(table, field.name) is not None
        and (field.name not in table.unread() or (part and field.name == "weight"))
    }
    outputs = {
        output: task_of(
            TaskTable(**{**keys, "metrics": _metrics(keys.get("metrics", ()))}), part=True
        )
        for output, keys in (table.outputs or {}).items()
    }
    options["metrics"] = [
        import_function(name) if is_function(name) else name for name in table.metrics
    ]
    if table.loss is not None and is_function(table.loss):
        options["loss"] = import_function(table.loss)
    return Task(**{**options, "outputs": outputs})


def table_of(task: Task) -> dict[str, Any] | None:
    """Return the table that describes a task; None if it has functions of Python."""
    plain = all(isinstance(one, str) for one in task.metrics)
    if not plain or not (task.loss is None or isinstance(task.loss, str)):
        return None
    keys: dict[str, Any] = {} if task.outputs else {"name": task.name}
    for field in dataclasses.fields(TaskTable):
        value = getattr(task, field.name)
        if field.name not in ("name", "outputs") and value not in (field.default, "", None):
            keys[field.name] = list(value) if isinstance(value, tuple) else value
    if task.outputs:
        parts = {name: table_of(part) for name, part in task.outputs.items()}
        if None in parts.values():
            return None
        keys["outputs"] = parts
    return keys
