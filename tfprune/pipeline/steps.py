"""Conversion of a recipe's epochs to optimizer steps, without TensorFlow."""

import dataclasses
from typing import Any, TypeVar

from tfprune.errors import OptionError, RecipeError
from tfprune.recipe.fitting import Fitting
from tfprune.recipe.recipe import Recipe
from tfprune.recipe.tables import PruneTable, TrainTable
from tfprune.sparsity.choices.schedules import ConstantSparsity, PolynomialDecay

UPDATES = 50
"""About how often masks are updated by default."""


TRAINED = {
    "train": "baseline.keras",
    "shrink": "shrunk.keras",
    "prune": "pruned.keras",
    "cluster": "clustered.keras",
}
"""The stages that train, each with the model that it writes."""

F = TypeVar("F", bound=Fitting)


def fitting(recipe: Recipe) -> TrainTable:
    """Return how the dense model is trained; fine-tuning takes what it leaves unset from it."""
    return recipe.train or TrainTable()


def filled(recipe: Recipe, table: F) -> F:
    """Return a table that trains, with what it leaves unset as in [train]."""
    names = [field.name for field in dataclasses.fields(Fitting)]
    unset = {name for name in names if getattr(table, name) is None}
    return dataclasses.replace(table, **{n: getattr(fitting(recipe), n) for n in unset})


def epoch_steps(recipe: Recipe, table: Fitting, train: Any) -> int:
    """Return the number of steps in one epoch of a table, on a set of samples."""
    steps = filled(recipe, table).steps_per_epoch
    return steps or train.steps(fitting(recipe).batch_size)


def schedule_of(table: PruneTable, steps: int) -> PolynomialDecay | ConstantSparsity:
    """Return the pruning schedule of a recipe's [prune]; an epoch has `steps` updates.

    Raises:
        RecipeError: In steps, it ends before it begins, or begins after the training.
    """
    total = table.epochs * steps
    begin = _step(table.begin_step, table.begin_epoch, steps)
    begin = 0 if begin is None else begin
    end = _step(table.end_step, table.end_epoch, steps)
    last = end if end is not None else max(round(total * 2 / 3), begin + 1)
    if begin >= last:
        raise RecipeError(
            f"[prune]: the schedule begins at step {begin} and ends at step {last}, with "
            f"{steps} steps an epoch. Begin earlier or end later."
        )
    if begin >= total:
        raise RecipeError(
            f"[prune]: the schedule begins at step {begin}, but the training has {total} steps: "
            f"{table.epochs} epochs of {steps}. Begin earlier or train longer."
        )
    frequency = table.frequency or max((last - begin) // UPDATES, 1)
    try:
        if table.constant:
            last = -1 if end is None else end
            return ConstantSparsity(table.final_sparsity, begin, last, frequency)
        return PolynomialDecay(
            table.initial_sparsity, table.final_sparsity, begin, last, table.power, frequency
        )
    except OptionError as error:
        raise RecipeError(f"[prune]: {error}") from None


def last_update(schedule: PolynomialDecay | ConstantSparsity) -> int:
    """Return the step from which a schedule has its final sparsity."""
    return schedule.begin_step if isinstance(schedule, ConstantSparsity) else schedule.end_step


def _step(step: int | None, epoch: float | None, steps: int) -> int | None:
    return step if epoch is None else round(epoch * steps)
