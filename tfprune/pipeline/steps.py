"""Conversion of a recipe's epochs to optimizer steps, without TensorFlow."""

from tfprune.errors import OptionError, RecipeError
from tfprune.recipe.recipe import Recipe
from tfprune.recipe.tables import PruneTable, TrainTable
from tfprune.sparsity.choices.schedules import ConstantSparsity, PolynomialDecay, PruningSchedule

UPDATES = 50
"""About how often masks are updated by default."""


def fitting(recipe: Recipe) -> TrainTable:
    """Return how the model is trained; fine-tuning takes batch size and optimizer from it."""
    return recipe.train or TrainTable()


def schedule_of(table: PruneTable, steps: int) -> PruningSchedule:
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


def _step(step: int | None, epoch: float | None, steps: int) -> int | None:
    return step if epoch is None else round(epoch * steps)
