"""Epochs in steps, by hand arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.errors import RecipeError
from tfprune.pipeline.steps import epoch_steps, schedule_of
from tfprune.recipe import PruneTable, parse_recipe
from tfprune.sparsity.choices.schedules import ConstantSparsity, PolynomialDecay


class Samples:
    """A set of samples that is as long as it says."""

    def __init__(self, count: int) -> None:
        self.count = count

    def steps(self, size: int) -> int:
        return -(-self.count // size)


def test_an_epoch_has_the_steps_of_its_samples_or_those_given() -> None:
    recipe = parse_recipe({"train": {"batch_size": 10}, "prune": {}})
    assert epoch_steps(recipe, recipe.prune, Samples(95)) == 10
    recipe = parse_recipe({"prune": {}})
    assert epoch_steps(recipe, recipe.prune, Samples(128)) == 2
    given = {"train": {"steps_per_epoch": 7}, "prune": {}, "cluster": {"steps_per_epoch": 3}}
    recipe = parse_recipe(given)
    tables = (recipe.prune, recipe.cluster)
    assert [epoch_steps(recipe, table, Samples(95)) for table in tables] == [7, 3]


@pytest.mark.parametrize(
    ("table", "schedule"),
    [
        (PruneTable(0.8, epochs=9), PolynomialDecay(0.0, 0.8, 0, 600, 3.0, 12)),
        (
            PruneTable(0.8, epochs=9, begin_epoch=1.5, end_epoch=2.0, frequency=7, power=1.0),
            PolynomialDecay(0.0, 0.8, 150, 200, 1.0, 7),
        ),
        (
            PruneTable(0.8, epochs=9, begin_step=5, end_step=9, initial_sparsity=0.5),
            PolynomialDecay(0.5, 0.8, 5, 9, 3.0, 1),
        ),
        (PruneTable(0.8, epochs=1, begin_epoch=0.9), PolynomialDecay(0.0, 0.8, 90, 91, 3.0, 1)),
        (
            PruneTable(0.5, epochs=9, schedule="constant", begin_epoch=1.0),
            ConstantSparsity(0.5, 100, -1, 10),
        ),
        (
            PruneTable(0.5, epochs=9, schedule="constant", end_step=100),
            ConstantSparsity(0.5, 0, 100, 2),
        ),
    ],
)
def test_a_schedule_in_epochs_is_the_same_in_steps(table: PruneTable, schedule: object) -> None:
    assert schedule_of(table, 100) == schedule


def test_a_schedule_that_ends_before_it_begins_once_counted() -> None:
    with pytest.raises(
        RecipeError, match="begins at step 250 and ends at step 200, with 100 steps"
    ):
        schedule_of(PruneTable(begin_step=250, end_epoch=2.0), 100)


def test_a_schedule_that_would_never_begin() -> None:
    with pytest.raises(RecipeError, match="begins at step 900, but the training has 900 steps"):
        schedule_of(PruneTable(epochs=9, begin_step=900, end_step=2000), 100)


@given(st.integers(1, 20), st.integers(1, 400), st.floats(0.01, 0.99))
def test_the_default_schedule_reaches_its_end_within_the_training(
    epochs: int, steps: int, sparsity: float
) -> None:
    schedule = schedule_of(PruneTable(sparsity, epochs=epochs), steps)
    reached = [step for step in range(epochs * steps + 1) if schedule(step) == (True, sparsity)]
    assert reached
