"""Graphs of both generations are read alike."""

from typing import Any

import keras
import pytest
import tf_keras

from tfprune.bridge.graphs import (
    arguments,
    ends,
    flatten,
    layers_within,
    map_structure,
    needed,
    operation_of,
)
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
    nodes = needed(ends(model)[1], {}, side)
    assert [operation_of(node).name for node in nodes] == ["e", "l", "d"]
    assert arguments(nodes[1], side)[1] == {}


@pytest.mark.parametrize("side", [Side(keras, "keras"), Side(tf_keras, "tf_keras")])
def test_layers_inside_of_others_are_found(side: Side) -> None:
    m: Any = side.api.layers
    inner = side.api.Sequential([m.Dense(2, name="inner")])
    model = side.api.Sequential([m.TimeDistributed(inner, name="t"), m.Dense(1, name="last")])
    assert [layer.name for layer in layers_within(model, side)] == ["t", "inner", "last"]
