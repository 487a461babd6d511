"""The kinds of what Keras's layers and operations compute."""

import keras
import numpy as np
import pytest

from tfprune.graph.call_kinds import KINDS, kind_of, names_of
from tfprune.graph.cost.mac_rules import FREE, rule_of

L = keras.layers


def test_every_name_has_one_kind():
    names = names_of(*KINDS)
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("kind", KINDS)
def test_all_but_products_cost_nothing(kind):
    x = {name: getattr(keras.layers, name, None) for name in names_of(kind)}
    for layer in (layer for layer in x.values() if layer is not None):
        assert (rule_of(layer) is FREE) == (kind != "product"), layer


# What each kind promises of its output, for numbers that are all different.
_INSIDE = {
    "movement": [L.Flatten(), L.Permute((2, 1)), L.RepeatVector(2), L.Cropping1D(1)],
    "selection": [L.MaxPooling1D(2), L.GlobalMaxPooling1D()],
    "blend": [L.AveragePooling1D(2)],
}


@pytest.mark.parametrize("kind", _INSIDE)
def test_the_output_stays_in_the_range_of_the_input(kind):
    for layer in _INSIDE[kind]:
        assert kind_of(layer) == kind
        shape = (2, 6) if isinstance(layer, L.RepeatVector) else (2, 6, 4)
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        y = np.asarray(layer(x))
        assert x.min() <= y.min()
        assert y.max() <= x.max()
        if kind != "blend":
            assert np.isin(y, x).all()


def test_a_class_of_the_user_has_no_kind():
    class Flatten(L.Layer):
        pass

    assert kind_of(Flatten()) == ""
    assert kind_of(L.Flatten()) == "movement"
    x = keras.Input((4,))
    assert kind_of(keras.ops.add(x, x)._keras_history.operation) == "combination"
