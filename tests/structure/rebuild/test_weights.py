import keras
import numpy as np
from keras import layers as kl

from tfprune.structure.groups.units import units
from tfprune.structure.ids.ids import Keep
from tfprune.structure.rebuild.weights import read_weights, silenced, sliced


def chain():
    inputs = keras.Input((4,))
    x = kl.Dense(3, name="a", kernel_regularizer="l2")(inputs)
    model = keras.Model(inputs, kl.Dense(2, name="b")(x))
    model.get_layer("a").set_weights([np.arange(12.0).reshape(4, 3), np.array([1.0, 2.0, 3.0])])
    model.get_layer("b").set_weights([np.arange(6.0).reshape(3, 2), np.zeros(2)])
    return model


def test_cutting_takes_the_positions_that_live() -> None:
    model = chain()
    found = units(model)
    weights = read_weights(found)
    keep = Keep(found.alive(found[0].units[[1]]))
    kept = sliced(found, weights, keep)
    np.testing.assert_array_equal(
        kept[id(model.get_layer("a"))][0], np.arange(12.0).reshape(4, 3)[:, [0, 2]]
    )
    np.testing.assert_array_equal(kept[id(model.get_layer("b"))][0], [[0, 1], [4, 5]])
    quiet = silenced(found, weights, keep)
    np.testing.assert_array_equal(quiet[id(model.get_layer("b"))][0], [[0, 1], [0, 0], [4, 5]])
    np.testing.assert_array_equal(quiet[id(model.get_layer("a"))][0], np.arange(12.0).reshape(4, 3))
