"""Batches as a model takes them, and a clear line for any other."""

import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.data.batches import read
from tfprune.errors import DataError
from tfprune.graph.inputs import flat_inputs, takes, typed
from tfprune.structure.groups.units import units

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")


def net() -> keras.Model:
    inputs = keras.Input((4,))
    return keras.Model(inputs, kl.Dense(2)(kl.Dense(16, name="h")(inputs)))


def read_flat(graph, data, option: str = "data"):
    (batch,) = read(data, takes(graph), option, size=40)
    return flat_inputs(graph, batch.inputs)


def test_inputs_by_name_are_not_taken_in_the_order_of_the_alphabet() -> None:
    z, a = keras.Input((4,), name="z"), keras.Input((4,), name="a")
    x = kl.Dense(16, name="h")(kl.Concatenate()([z, a]))
    graph = units(keras.Model([z, a], kl.Dense(2)(x))).graph
    first, _ = read_flat(graph, {"a": X, "z": 2 * X})
    np.testing.assert_array_equal(first, 2 * X)
    with pytest.raises(DataError, match="data=: no input 'z'"):
        read_flat(graph, {"a": X, "b": X})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (X[:, :3], r"expected a batch of shape \(None, 4\). Received \(40, 3\)"),
        (X[0], r"expected a batch of shape \(None, 4\). Received \(4,\)"),
        (([X, X],), "the model takes 1 input. Received 2"),
        (X * np.nan, "repair= holds NaN or infinity"),
    ],
)
def test_a_batch_has_to_be_what_the_model_takes(inputs, message) -> None:
    with pytest.raises(DataError, match=message):
        read_flat(units(net()).graph, inputs, "repair")


@pytest.mark.parametrize("option", ["repair", "data"])
def test_two_inputs_are_given_as_a_list_or_by_name(option: str) -> None:
    one, two = keras.Input((4,), name="one"), keras.Input((4,), name="two")
    x = kl.Dense(16, activation="relu", name="h")(one) + kl.Dense(16)(two)
    for inputs, data in (
        ([one, two], [X, 2 * X]),
        ({"one": one, "two": two}, {"two": 2 * X, "one": X}),
    ):
        model = keras.Model(inputs, kl.Dense(2)(x))
        small, report = tfprune.shrink(
            model, {"channels": 0.5}, importance="activation" if option == "data" else "l2",
            **{option: data},
        )  # fmt: skip
        assert report.error <= 1e-5
        assert small.get_layer("h").units == 8
    with pytest.raises(DataError, match="no input 'two'. Received"):
        tfprune.shrink(model, {"channels": 0.5}, repair={"one": X, "c": X})


def test_nothing_is_repaired_with_data_that_is_not_finite() -> None:
    with pytest.raises(DataError, match="repair= holds NaN"):
        tfprune.shrink(net(), {"channels": 0.5}, repair=X * np.nan, verify=False)
    with pytest.raises(DataError, match="data= holds NaN"):
        tfprune.shrink(net(), {"channels": 0.5}, importance="activation", data=X * np.nan)


class Rows(keras.Model):
    """Takes indices and numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = self.add_weight(shape=(9, 4), name="table")
        self.out = kl.Dense(3)

    def call(self, inputs):
        rows = keras.ops.take(self.table, inputs["index"][:, 0], axis=0)
        return self.out(rows * inputs["x"])


def test_types_of_a_subclassed_model_are_those_that_its_call_takes() -> None:
    model = Rows()
    model({"index": np.zeros((6, 1), "int32"), "x": X[:6]})
    found = typed(model, {"index": (6, 1), "x": (6, 4)})
    assert {key: spec.dtype.name for key, spec in found.items()} == {
        "index": "int32",
        "x": "float32",
    }
    assert [one.dtype for one in takes(units(model).graph).inputs] == ["int32", "float32"]
