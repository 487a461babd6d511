"""What one-shot pruning did to each layer of a model."""

import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import keras

from tfprune.errors import ModelError, type_name
from tfprune.sparsity.kernels import Skipped


@dataclass(frozen=True)
class LayerReport:
    """What became of one kernel.

    Args:
        path: Its path in the model.
        shape: Its shape.
        size: Its number of weights.
        zeros: How many of them are zero now.
        method: How it was pruned: `reconstruct`, `wanda` or `magnitude`.
        error: How far the layer's products on the samples are from those of the model as it came:
            ‖Y' − Y‖² / ‖Y‖². None where the inputs were not looked at.
        magnitude_error: What that would be, had its smallest weights been set to zero and the
            others left as they are.
        bias_moved: Whether the bias makes up for a part.
        reason: Why the method is not the one that was asked for.
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
        rows: One a pruned kernel, in the order in which the model runs them.
        skipped: What was left as it was, and why.
        samples: How many were looked at.
        pattern: The shape of the holes.
    """

    rows: tuple[LayerReport, ...]
    skipped: tuple[Skipped, ...]
    samples: int
    pattern: str

    def __iter__(self) -> Iterator[LayerReport]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, path: str) -> LayerReport:
        return next(row for row in self.rows if row.path == path)

    def to_json(self) -> dict[str, Any]:
        """Return the report as a dict that `json.dumps` takes."""
        return asdict(self)

    def __str__(self) -> str:
        cells = [("kernel", "shape", "zeros", "method", "error", "magnitude's")]
        cells += [
            (row.path, "×".join(map(str, row.shape)), f"{row.zeros / row.size:.2%}", row.method,
             _percent(row.error), _percent(row.magnitude_error))
            for row in self.rows
        ]  # fmt: skip
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width) if i in (0, 1, 3) else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in cells
        ]
        lines.append(f"from {self.samples:,} samples; errors are ‖Y' − Y‖² / ‖Y‖² of each layer")
        lines += [f"{row.path}: {row.method}: {row.reason}" for row in self.rows if row.reason]
        lines += [f"not pruned: {e.layer} ({e.kind}): {e.reason}" for e in self.skipped]
        return "\n".join(line.rstrip() for line in lines)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.3%}"


# Beside the model, not on it: an attribute of the model would be tracked and saved by Keras.
_reports: "weakref.WeakKeyDictionary[Any, OneShotReport]" = weakref.WeakKeyDictionary()


def keep_report(model: Any, report: OneShotReport) -> None:
    """Remember what was done to a model for as long as it lives."""
    _reports[model] = report


def oneshot_report(model: keras.Model) -> OneShotReport:
    """Return what the last `prune_oneshot` of a model did to each of its layers.

    Args:
        model: The model itself. A copy of it, or one that was loaded, has no report.

    Raises:
        ModelError: If there is none.
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
