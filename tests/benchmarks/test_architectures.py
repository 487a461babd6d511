"""The models of the table «architectures × verbs»: each builds and runs, and no verb trips.

`make slow` takes a third of them, `make exhaustive` the others.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import pytest

# Keras says so of layers that make their own layers in `__init__` and have no `build`, as people
# write them.
pytestmark = pytest.mark.filterwarnings("ignore:.*it has unbuilt state")

FOLDER = Path(__file__).parents[2] / "benchmarks"


def module(name: str) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


zoo = module("architectures")

# keras.applications are tested in tests/structure; here they would take minutes.
NAMES = [name for name, one in zoo.ARCHITECTURES.items() if one.domain != "applications"]
QUICK = NAMES[::12]
REST = [name for name in NAMES if name not in QUICK]


def sampled(names: list[str]) -> list:
    """Every third name as a parameter of a slow test, the others of an exhaustive one."""
    marks = [pytest.mark.slow, pytest.mark.exhaustive, pytest.mark.exhaustive]
    return [pytest.param(name, marks=marks[place % 3]) for place, name in enumerate(names)]


@pytest.fixture(scope="module")
def cells() -> ModuleType:
    return module("verb_cells")


def test_there_is_a_model_of_every_domain() -> None:
    domains = {one.domain for one in zoo.ARCHITECTURES.values()}
    files = {file.stem for file in (FOLDER / "architectures").glob("*.py")}
    assert domains == files - {"__init__", "registry", "samples"}


@pytest.mark.parametrize("name", [*QUICK, *sampled(REST)])
def test_a_model_runs_on_its_samples(name: str) -> None:
    one = zoo.ARCHITECTURES[name]
    model, x = zoo.build(one), zoo.samples(one, 3)
    outputs = keras.tree.flatten(model(x, training=False))
    targets = keras.tree.flatten(zoo.random_targets(model, x))
    assert model.count_params() > 0
    assert [output.shape for output in outputs] == [target.shape for target in targets]
    assert all(output.shape[0] == 3 and np.isfinite(output).all() for output in outputs)


@pytest.mark.parametrize("name", QUICK[::3])
def test_a_seed_gives_the_same_model_and_samples_again(name: str) -> None:
    one = zoo.ARCHITECTURES[name]
    first, again = (zoo.build(one)(zoo.samples(one, 2), training=False) for _ in range(2))
    keras.tree.map_structure(np.testing.assert_array_equal, first, again)


@pytest.mark.parametrize("name", sampled(NAMES))
def test_looking_for_units_is_no_fault(cells: ModuleType, name: str) -> None:
    one = zoo.ARCHITECTURES[name]
    assert "fault" not in cells.outcome(one, cells.units)


def test_batch_normalization_has_the_statistics_of_the_samples() -> None:
    one = zoo.ARCHITECTURES["series, convolutions"]
    model = zoo.build(one)
    first = next(x for x in model.layers if isinstance(x, keras.layers.BatchNormalization))
    before = keras.Model(model.input, first.input)(zoo.samples(one, 24))
    np.testing.assert_allclose(first.moving_mean, np.mean(before, axis=(0, 1)), atol=1e-5)
    assert first.momentum == 0.99
