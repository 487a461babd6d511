"""What a quantization-aware model has otherwise than its graph."""

import keras
import pytest

import tfprune
from tfprune.deploy.qat.quantize_aware import rounded_model
from tfprune.deploy.qat.rounding.choices import Choices
from tfprune.deploy.qat.rounding.layer_rounding import LayerRounding, WeightRounding
from tfprune.deploy.qat.rounding.ranges import ActivationRange
from tfprune.errors import OptionError

L = keras.layers


def rounded(layer, rounding, prefix="", shape=(8,)):
    model = keras.Sequential([keras.Input(shape), layer])
    choose = lambda flat: Choices({layer.name: rounding})  # noqa: E731
    return rounded_model(model, choose, keep_zeros=True, keep_clusters=False, prefix=prefix)


def ranges(model):
    return {one.name: one for one in model.layers if isinstance(one, ActivationRange)}


def test_limits_and_kinds_of_ranges_are_those_of_the_layer() -> None:
    own = LayerRounding(limits=(-1.0, 1.0), ranges="last_value")
    found = ranges(rounded(L.Dense(2, name="last"), own))["last_range"]
    assert (found.fixed, found.kind) == ((-1.0, 1.0), "last_value")
    centered = LayerRounding(symmetric=True)
    assert ranges(rounded(L.Dense(2, name="last"), centered))["last_range"].about_zero
    bare = rounded(L.Dense(2, name="last"), LayerRounding(output=False))
    assert "last_range" not in ranges(bare)


def test_names_have_a_prefix_until_the_rounding_is_taken_off() -> None:
    model = rounded(L.Dense(2, name="q_last"), LayerRounding(), prefix="q_")
    assert model.get_layer("q_q_last")
    assert tfprune.strip_quantization(model).get_layer("q_last")


def test_what_a_layer_cannot_do_is_one_line() -> None:
    four = LayerRounding(weights={"kernel": WeightRounding(bits=4)})
    with pytest.raises(
        OptionError, match=r"'row' \(keras.Conv1D\): weights are rounded otherwise only"
    ):
        rounded(L.Conv1D(2, 3, name="row"), four, shape=(8, 2))
    with pytest.raises(
        OptionError, match=r"'cell' \(keras.GRU\) is rounded inside, with its output"
    ):
        rounded(L.GRU(2, name="cell"), LayerRounding(symmetric=True), shape=(8, 2))
