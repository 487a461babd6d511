"""What the tables of a recipe change in a model, before it is trained again."""

from collections.abc import Mapping
from typing import Any

import keras

from tfprune.clustering.cluster import cluster
from tfprune.graph.inputs import InputShape
from tfprune.keras_support.losses import Loss
from tfprune.measure.size import sizes
from tfprune.recipe.recipe import Recipe
from tfprune.recipe.tables import ClusterTable, ShrinkTable
from tfprune.runtime.artifact import Artifact
from tfprune.sparsity.pruning import prune, strip_pruning
from tfprune.structure.rebuild.recalibrate import learning_norms, recalibrate
from tfprune.structure.report import ShrinkReport
from tfprune.structure.shrink import shrink
from tfprune.utils.progress import SILENT, Progress

SECTIONS = {
    "candidates": "Candidates for the file",
    "sizes": "With and without clustering, in this scheme",
}
"""The titles of tables in the report, by the fact of a stage that holds them."""

COLUMNS = ("file of", "bytes", "gzip bytes", "entropy of its weights")


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
        data=data,
        loss=loss,
        **_limits(table),
        repair=repair,
        seed=seed,
        input_shape=input_shape,
        progress=progress,
    )
    if repair is not None and learning_norms(small):
        recalibrate(small, repair)
    return small, report


def _limits(table: ShrinkTable) -> dict[str, Any]:
    """Return the options that say which units may be removed."""
    return {key: getattr(table, key) for key in ("ranking", "round_to", "only", "skip", "heads")}


def removed_rows(report: ShrinkReport) -> list[list[Any]]:
    """Return a row for every group that got smaller, and for every block that was removed."""
    groups = [group for group in report.groups if group.after != group.before]
    blocks = [block for block in report.blocks if block.removed]
    return [
        *([group.name, group.kind, group.before, group.after] for group in groups),
        *([block.name, "block", 1, 0] for block in blocks),
    ]


def target_of(table: ShrinkTable) -> str | dict[str, float]:
    """Return the target in the form that `shrink` takes."""
    return table.target if isinstance(table.target, str) else dict(table.target)


def cluster_by(model: keras.Model, table: ClusterTable, seed: int = 0) -> keras.Model:
    """Make the weights of each kernel share values."""
    return cluster(
        model,
        table.clusters,
        init=table.init,
        per_channel=table.per_channel,
        keep_zeros=table.keep_zeros,
        only=table.only,
        skip=table.skip,
        seed=seed,
    )


def sizes_beside(files: Mapping[str, Artifact]) -> dict[str, Any]:
    """Return a table of the sizes of files, by the model that each was made of."""
    rows = []
    for name, file in files.items():
        size = sizes(file)
        numbers = (size.raw_bytes, size.gzip_bytes, size.entropy_bytes)
        rows.append([name, *(f"{number:,}" for number in numbers)])
    return {"columns": list(COLUMNS), "rows": rows, "text": ""}


def check_choices(
    model: keras.Model, recipe: Recipe, input_shape: InputShape | None = None
) -> None:
    """Raise the errors of shrinking and pruning early, on a copy of the model."""
    shrinking, pruning = recipe.shrink, recipe.prune
    if shrinking is not None and not shrinking.after_pruning:
        model, _ = shrink(
            model,
            target_of(shrinking),
            **_limits(shrinking),
            input_shape=input_shape,
            verify=False,
        )
    if pruning is not None:
        prune(
            model,
            pruning.final_sparsity,
            pattern=pruning.pattern,
            allocation=pruning.allocation,
            only=pruning.only,
            skip=pruning.skip,
        )
        strip_pruning(model)
    if recipe.cluster is not None:
        cluster_by(model, recipe.cluster)
