"""The ends of a model."""

from typing import Any

import keras
import pytest
from keras import layers as L

from tfprune.graph.ends import activation_of, last_layer, tables_of_inputs


def test_the_tables_that_inputs_are_looked_up_in() -> None:
    words, numbers = keras.Input((4,), dtype="int32"), keras.Input((4,))
    table = L.Embedding(9, 2)
    parts = [L.Flatten()(table(words)), numbers]
    model = keras.Model([numbers, words], L.Dense(2)(L.Concatenate()(parts)))
    assert list(tables_of_inputs(model)) == [(1, table)]
    chain = keras.Sequential([keras.Input((4,), dtype="int32"), L.Embedding(5, 2)])
    assert [(place, one.input_dim) for place, one in tables_of_inputs(chain)] == [(0, 5)]


@pytest.mark.parametrize(
    ("ends", "name"),
    [
        ([L.Dense(4, "tanh"), L.Reshape((2, 2))], "tanh"),
        ([L.Dense(4, "relu"), L.Activation("linear")], "relu"),
        ([L.Dense(4), L.Softmax()], "softmax"),
        ([L.Dense(4)], ""),
    ],
)
def test_what_an_output_ends_with(ends: list, name: str) -> None:
    model = keras.Sequential([keras.Input((3,)), *ends])
    assert activation_of(last_layer(model.outputs[0])) == name
    outer = keras.Sequential([keras.Input((3,)), model])
    assert activation_of(last_layer(outer.outputs[0])) == name


def test_the_end_of_each_output_of_a_model_inside() -> None:
    x = keras.Input((3,))
    inner = keras.Model(x, [L.Dense(4, "softmax")(x), L.Dense(1)(x)])
    y, z, shared = keras.Input((3,)), keras.Input((3,)), L.Flatten()
    outer = keras.Model([y, z], [*inner(y), shared(L.Dense(2, "tanh")(z)), shared(inner(z)[0])])
    found = [activation_of(last_layer(output)) for output in outer.outputs]
    assert found == ["softmax", "", "tanh", "softmax"]


class Subclassed(keras.Model):
    def call(self, inputs: Any) -> Any:
        return 2 * inputs


def test_a_subclassed_model_is_an_end() -> None:
    x, inner = keras.Input((3,)), Subclassed()
    assert last_layer(keras.Model(x, inner(x)).outputs[0]) is inner
