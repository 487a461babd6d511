"""Shrinking a model as the table [shrink] of a recipe says, before it is trained again."""

from typing import Any

import keras

from tfprune.graph.inputs import InputShape
from tfprune.keras_support.losses import Loss
from tfprune.recipe.tables import ShrinkTable
from tfprune.structure.rebuild.recalibrate import learning_norms, recalibrate
from tfprune.structure.report import ShrinkReport
from tfprune.structure.shrink import shrink
from tfprune.utils.progress import SILENT, Progress


def shrink_by(
    model: keras.Model,
    table: ShrinkTable,
    *,
    data: Any,
    repair: Any,
    loss: Loss | None = None,
    input_shape: InputShape | None = None,
    seed: int = 0,
    progress: Progress = SILENT,
) -> tuple[keras.Model, ShrinkReport]:
    """Return the smaller model, with what is kept refitted on samples, and the report.

    Args:
        model: The model.
        table: What to remove.
        data: Samples for an importance that needs them, with labels if it needs gradients.
        repair: Samples to refit on; None refits nothing.
        loss: The loss to differentiate, if the model is not compiled.
        input_shape: As `shrink` takes it.
        seed: Seed of random importance.
        progress: Receives progress reports.
    """
    small, report = shrink(
        model,
        target_of(table),
        importance=table.importance,
        ranking=table.ranking,
        data=data,
        loss=loss,
        round_to=table.round_to,
        only=table.only,
        skip=table.skip,
        heads=table.heads,
        repair=repair,
        seed=seed,
        input_shape=input_shape,
        progress=progress,
    )
    if repair is not None and learning_norms(small):
        recalibrate(small, repair)
    return small, report


def target_of(table: ShrinkTable) -> str | dict[str, float]:
    """Return the target in the form that `shrink` takes."""
    return table.target if isinstance(table.target, str) else dict(table.target)
