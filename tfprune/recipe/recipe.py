"""A recipe: its tables, what is not allowed of them together, and the help on them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfprune.recipe.kinds import SHARE, Refused, Table, show
from tfprune.recipe.sources import is_file, is_function
from tfprune.recipe.tables import (
    ClusterTable,
    DataTable,
    GateTable,
    MeasureTable,
    ModelTable,
    PruneTable,
    QuantizeTable,
    ShrinkTable,
    TrainTable,
)
from tfprune.recipe.task_table import TaskTable


@dataclass(frozen=True)
class Recipe:
    """One run: the given tables, and None for the others."""

    model: ModelTable | None = None
    data: DataTable | None = None
    task: TaskTable | None = None
    train: TrainTable | None = None
    shrink: ShrinkTable | None = None
    prune: PruneTable | None = None
    cluster: ClusterTable | None = None
    quantize: QuantizeTable | None = None
    measure: MeasureTable | None = None
    gate: GateTable | None = None

    def faults(self) -> Iterator[tuple[str, str, str]]:
        """Yield combinations of tables that are not allowed: table, key, error."""
        if self.model and self.train is None and not is_trained(self.model):
            yield "model", "source", f"{self.model.source} is untrained. Add a table [train]."
        told = self.model is not None and (
            is_file(self.model.source) or is_function(self.model.source)
        )
        if not self.task.is_share if self.task is not None else told:
            return  # a compiled model may tell any metric
        # Of a share, 1 would let everything through.
        for table, key in (("gate", "max_drop"), ("gate", "min_score"), ("quantize", "max_drop")):
            value = getattr(getattr(self, table), key, None)
            try:
                SHARE.read(0 if value is None else value)
            except Refused as hint:
                yield table, key, f"expected {SHARE.allowed}. Received {show(value)}. {hint}"

    @property
    def seed(self) -> int:
        """Return the seed of everything random in the run except the split."""
        return self.train.seed if self.train else 0

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the given tables with every key that has a value, including defaults.

        The result parses to the same recipe.
        """
        return {
            name: _values(table) for name in TABLES if (table := getattr(self, name)) is not None
        }

    def sha256(self) -> str:
        """Return a hash of all values, including defaults."""
        return tables_sha256(self.to_dict())

    def is_same_run(self, tables: Mapping[str, Any]) -> bool:
        """Return whether tables that any version wrote with all defaults define the same run.

        A key that a version does not have, or leaves unset, means its default.
        """
        return _without_defaults(tables) == _without_defaults(self.to_dict())


def tables_sha256(tables: Mapping[str, Any]) -> str:
    """Return a hash of the tables of a recipe."""
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def _without_defaults(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of tables whose values are not their defaults, of now or formerly."""
    return {name: _changed(TABLES[name], keys) if name in TABLES else keys
            for name, keys in tables.items()}  # fmt: skip


def _changed(table: type[Table], keys: Mapping[str, Any]) -> dict[str, Any]:
    usual: dict[str, list[Any]] = {}
    for field in dataclasses.fields(table):  # type: ignore[arg-type]
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        usual[field.name] = [default, *field.metadata["former"]]
    return {key: value for key, value in keys.items() if value not in usual.get(key, ())}


def is_trained(model: ModelTable) -> bool:
    """Return whether the source may return a trained model, as a function may."""
    return is_file(model.source) or is_function(model.source) or model.weights is not None


def _values(table: Table) -> dict[str, Any]:
    fields = dataclasses.fields(table)  # type: ignore[arg-type]
    values = {field.name: getattr(table, field.name) for field in fields}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if value is not None and key not in table.unread()
    }


TABLES: dict[str, type[Table]] = {
    "model": ModelTable,
    "data": DataTable,
    "task": TaskTable,
    "train": TrainTable,
    "shrink": ShrinkTable,
    "prune": PruneTable,
    "cluster": ClusterTable,
    "quantize": QuantizeTable,
    "measure": MeasureTable,
    "gate": GateTable,
}


def describe() -> str:
    """Return all tables and keys as lines of text, with allowed values and defaults."""
    lines = []
    for name, table in TABLES.items():
        lines += [f"[{name}]  {(table.__doc__ or '').partition(chr(10))[0]}"]
        for field in dataclasses.fields(table):  # type: ignore[arg-type]
            kind, default = field.metadata["kind"], field.default
            end = "" if default is None else f"; default {show(default)}"
            end = "; required" if default is dataclasses.MISSING else end
            lines.append(f"  {field.name}: {field.metadata['help']}")
            lines.append(f"      {kind.described()}{end}")
    return "\n".join(lines)
