"""Which sources a recipe may name."""

import pytest

from tfprune.pipeline.models import BUILDERS
from tfprune.recipe.kinds import Refused
from tfprune.recipe.sources import DATA_SOURCE, MODEL_SOURCE, MODELS, is_file, is_function


@pytest.mark.parametrize(
    "source", ["convnet", "a/b.keras", "b.h5", "keras.applications.MobileNetV2", "pkg.mod:make"]
)
def test_model_sources(source: str) -> None:
    assert MODEL_SOURCE.read(source) == source


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("digits", "digits"),
        ("mnist", "mnist"),
        ("keras.datasets.cifar10", "cifar10"),
        ("a/b.npz", "a/b.npz"),
        ("pkg:load", "pkg:load"),
    ],
)
def test_data_sources(source: str, read: str) -> None:
    assert DATA_SOURCE.read(source) == read


@pytest.mark.parametrize("source", ["convnett", "", 3, "keras.applications.", "pkg.mod", "x.npz"])
def test_other_model_sources_are_refused(source: object) -> None:
    with pytest.raises(Refused):
        MODEL_SOURCE.read(source)


@pytest.mark.parametrize("source", ["digit", "", 3, "keras.datasets.digits", "x.keras", "a:b:c"])
def test_other_data_sources_are_refused(source: object) -> None:
    with pytest.raises(Refused):
        DATA_SOURCE.read(source)


def test_every_built_in_model_that_is_named_is_built() -> None:
    assert sorted(BUILDERS) == sorted(MODELS)


def test_forms_are_told_apart() -> None:
    assert is_file("x.npz")
    assert not is_file("pkg.mod:load")
    assert is_function("pkg.mod:load")
    assert not is_function("C:\\x.npz")
