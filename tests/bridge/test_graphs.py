"""Graphs of both generations are read alike."""

from typing import Any

import keras
import pytest
import tf_keras

from tfprune.bridge.graphs import flatten, graph_of, map_structure, name_maker
from tfprune.bridge.layer_configs import Side


def test_structures_keep_their_kind() -> None:
    value = {"b": [1, (2, 3)], "a": 4}
    assert flatten(value) == [4, 1, 2, 3]
    assert map_structure(lambda x: x + 1, value) == {"b": [2, (3, 4)], "a": 5}


@pytest.mark.parametrize("side", [Side(keras, "keras"), Side(tf_keras, "tf_keras")])
def test_calls_come_in_order_and_implied_masks_are_left_out(side: Side) -> None:
    m: Any = side.api.layers
    tokens = side.api.Input((4,), dtype="int32")
    x = m.Embedding(5, 3, mask_zero=True, name="e")(tokens)
    y = m.LSTM(2, name="l")(x)
    m.Dense(1, name="unused")(y)
    model = side.api.Model(tokens, m.Dense(1, name="d")(y))
    graph = graph_of(model, side)
    assert [call.op.name for call in graph.calls] == ["e", "l", "d"]
    assert graph.calls[1].args == graph.calls[0].outputs
    assert graph.calls[1].kwargs == {}
    assert graph.values[0].shape == (None, 4)
    assert graph.values[0].dtype == "int32"


@pytest.mark.parametrize("side", [Side(keras, "keras"), Side(tf_keras, "tf_keras")])
def test_a_mask_that_was_given_is_kept(side: Side) -> None:
    x, mask = side.api.Input((5, 4)), side.api.Input((5,), dtype="bool")
    model = side.api.Model([x, mask], side.api.layers.LSTM(3)(x, mask=mask))
    graph = graph_of(model, side)
    assert graph.calls[0].args == (graph.inputs[0],)
    assert graph.calls[0].kwargs == {"mask": graph.inputs[1]}


def test_what_made_a_tensor_is_renamed() -> None:
    start = keras.Input((3,))
    twice = start * 2.0
    name_maker(twice, "twice_{}".format)
    assert keras.Model(start, twice).operations[-1].name.startswith("twice_multiply")
