"""The names of tensorflow-model-optimization where it has them."""

import pytest

import tfprune
from tfprune import tfmot
from tfprune.tfmot_compat.adapter import toolkit

PLACES = [
    "sparsity.keras",
    "clustering.keras",
    "quantization.keras",
    "quantization.keras.collab_opts",
    "quantization.keras.default_8bit",
    "experimental.combine",
]


def at(root, place: str):
    for name in place.split("."):
        root = getattr(root, name)
    return root


@pytest.mark.parametrize("place", PLACES)
def test_names_are_where_the_toolkit_has_them(place) -> None:
    ours = at(tfmot, place)
    assert set(dir(ours)) <= set(dir(at(toolkit(), place)))
    for name in set(dir(ours)) & set(dir(tfprune)):
        assert getattr(ours, name) is getattr(tfprune, name)


def test_a_name_that_is_not_there_is_one_line() -> None:
    with pytest.raises(AttributeError, match="tfmot.quantization.keras has no 'QuantizeRegistry'"):
        tfmot.quantization.keras.QuantizeRegistry  # noqa: B018 - reading it raises
