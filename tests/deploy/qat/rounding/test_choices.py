"""Which layers are rounded, and in how many bits, by name."""

import keras
import pytest

from tfprune.deploy.qat.rounding.choices import chosen_by
from tfprune.errors import FilterError, OptionError
from tfprune.graph.flat import flat_graph

L = keras.layers


@pytest.fixture(scope="module")
def flat():
    inner = keras.Sequential([keras.Input((4, 4, 2)), L.Conv2D(3, 3, name="a")], name="inner")
    layers = [inner, L.Flatten(name="flat"), L.Dense(3, name="hidden"), L.Dense(2, name="last")]
    return flat_graph(keras.Sequential([keras.Input((4, 4, 2)), *layers]))


def choices(flat, only=(), skip=(), bits=8, ranges="widening"):
    return chosen_by(only, skip, bits, ranges)(flat)


def test_layers_are_chosen_by_name_and_by_what_they_are_in(flat) -> None:
    assert set(choices(flat).roundings) == {"a", "flat", "hidden", "last"}
    assert set(choices(flat, only=["inner", "last"]).roundings) == {"a", "last"}
    assert set(choices(flat, skip="inner").roundings) == {"flat", "hidden", "last"}
    with pytest.raises(FilterError, match=r"only: 'lost' matches nothing.*Did you mean last"):
        choices(flat, only="lost")


def test_bits_are_for_kernels_that_can_have_them(flat) -> None:
    every = choices(flat, bits=4, ranges="all_values")
    assert [every[name].bits for name in ("a", "flat", "last")] == [4, 8, 4]
    assert {every[name].ranges for name in every.roundings} == {"all_values"}
    some = choices(flat, bits={"inner": 4})
    assert [some[name].bits for name in ("a", "hidden", "last")] == [4, 8, 8]
    with pytest.raises(OptionError, match=r"bits: 'flat' matches flat \(Flatten\); the runtime"):
        choices(flat, bits={"flat": 4})
    with pytest.raises(OptionError, match="4 or 8 bits. Received 3"):
        choices(flat, bits={"a": 3})
