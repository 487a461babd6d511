"""The report of one-shot pruning on each layer of a model."""

import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import keras

from tfprune.errors import ModelError, type_name
from tfprune.graph.kernels import Skipped
from tfprune.utils.text_table import aligned


@dataclass(frozen=True)
class LayerReport:
    """The result for one kernel.

    Args:
        path: Its path in the model.
        shape: Its shape.
        size: Its number of weights.
        zeros: How many of them are zero now.
        method: How it was pruned: `reconstruct`, `wanda` or `magnitude`.
        error: The error of the layer's products on the samples relative to the original model,
            ‖Y' − Y‖² / ‖Y‖². None if the inputs were not recorded.
        magnitude_error: The same error if its smallest weights were set to zero and the others
            not changed.
        bias_moved: Whether the bias was updated.
        reason: Why the method differs from the requested one.
    """

    path: str
    shape: tuple[int, ...]
    size: int
    zeros: int
    method: str
    error: float | None = None
    magnitude_error: float | None = None
    bias_moved: bool = False
    reason: str = ""


@dataclass(frozen=True)
class OneShotReport:
    """What one call of `prune_oneshot` did: iterate over it for rows, print it for a table.

    Args:
        rows: One per pruned kernel, in the order in which the model runs them.
        skipped: What was not pruned, and why.
        samples: How many samples were used.
        pattern: The pattern of zeros.
        bits: The bits of the grid that the weights are on; None: they are on none.
    """

    rows: tuple[LayerReport, ...]
    skipped: tuple[Skipped, ...]
    samples: int
    pattern: str
    bits: int | None = None

    def __iter__(self) -> Iterator[LayerReport]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, path: str) -> LayerReport:
        return next(row for row in self.rows if row.path == path)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dict for `json.dumps`."""
        return asdict(self)

    def __str__(self) -> str:
        cells = [("kernel", "shape", "zeros", "method", "error", "magnitude's")]
        cells += [
            (row.path, "×".join(map(str, row.shape)), f"{row.zeros / row.size:.2%}", row.method,
             _percent(row.error), _percent(row.magnitude_error))
            for row in self.rows
        ]  # fmt: skip
        lines = aligned(cells, right=(2, 4, 5))
        lines.append(f"from {self.samples:,} samples; errors are ‖Y' − Y‖² / ‖Y‖² of each layer")
        if self.bits is not None:
            lines.append(f"weights are whole multiples of a step for each output: {self.bits} bits")
        lines += [f"{row.path}: {row.method}: {row.reason}" for row in self.rows if row.reason]
        lines += [f"not pruned: {e.layer} ({e.kind}): {e.reason}" for e in self.skipped]
        return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.3%}"


# Not an attribute of the model, which Keras would track and save.
_reports: "weakref.WeakKeyDictionary[Any, OneShotReport]" = weakref.WeakKeyDictionary()


def keep_report(model: Any, report: OneShotReport) -> None:
    """Store the report on a model as long as the model exists."""
    _reports[model] = report


def oneshot_report(model: keras.Model) -> OneShotReport:
    """Return the report of the last `prune_oneshot` of a model.

    Args:
        model: The model itself. A copy or a loaded model has no report.

    Raises:
        ModelError: If there is no report.
    """
    try:
        report = _reports.get(model)
    except TypeError:
        raise ModelError(
            f"oneshot_report: expected a Keras model. Received {type_name(model)}."
        ) from None
    if report is None:
        raise ModelError(
            f"oneshot_report: {getattr(model, 'name', type_name(model))!r} was not pruned by "
            "prune_oneshot in this process; pass the model that prune_oneshot returned"
        )
    return report
