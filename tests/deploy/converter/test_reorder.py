"""Inputs and outputs in another order, in the same file."""

import keras
import numpy as np
import pytest

from tfprune.deploy.converter.reorder import reorder
from tfprune.deploy.tflite import to_tflite
from tfprune.runtime import flatbuffer
from tfprune.runtime.litert import Runner
from tfprune.runtime.stored_numbers import specs

L = keras.layers


@pytest.fixture(scope="module")
def data() -> bytes:
    """Two inputs and three outputs."""
    p, q = keras.Input((2,), name="p"), keras.Input((2,), name="q")
    outputs = {"x": L.Dense(1)(p), "y": L.Dense(2)(q), "z": L.Add()([p, q])}
    return to_tflite(keras.Model([p, q], outputs)).bytes


def _names(data: bytes) -> tuple[list[str], list[str]]:
    inputs, outputs = specs(flatbuffer.parse(data))
    return [spec.name for spec in inputs], [spec.name for spec in outputs]


def test_order_changes_and_meaning_stays(data):
    other = reorder(data, ["q", "p"], ["z", "x", "y"])
    assert _names(other) == (["q", "p"], ["z", "x", "y"])
    assert len(other) == len(data)
    x = {"p": np.ones((1, 2), "float32"), "q": np.full((1, 2), 3.0, "float32")}
    before, after = Runner(data)(x), Runner(other)(x)
    assert all((before[name] == after[name]).all() for name in "xyz")
    assert reorder(other, *_names(data)) == data


def test_other_names_are_refused(data):
    with pytest.raises(ValueError, match=r"the file has \['p', 'q'\], the model \['p', 'r'\]"):
        reorder(data, ["p", "r"], ["x", "y", "z"])
