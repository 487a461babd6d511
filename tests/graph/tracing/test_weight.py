import keras
import numpy as np
import pytest
from keras import layers as kl

from tfprune.graph.tracing.weight import Constant, Weight, weight_of

X = np.ones((4, 3), "float32")


def test_a_weight_is_saved_and_trained(tmp_path) -> None:
    inputs = keras.Input((3,))
    scale = Weight((3,), initializer="ones", regularizer="l2", constraint="non_neg", name="scale")
    model = keras.Model(inputs, inputs * scale(inputs))
    model.compile("sgd", "mse")
    model.fit(X, X * 2, verbose=0)
    assert (np.asarray(scale.weight) > 1).all()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X), model(X))
    again = loaded.get_layer("scale")
    assert type(again.weight.regularizer) is keras.regularizers.L2
    assert type(again.weight.constraint) is keras.constraints.NonNeg


def test_a_fixed_weight_is_not_trained() -> None:
    layer = Weight((3,), fixed=True)
    layer(X)
    assert layer.trainable_weights == []
    assert len(layer.weights) == 1


def test_a_weight_is_shared_with_the_layer_that_has_it() -> None:
    dense = kl.Dense(2)
    dense.build((None, 3))
    layer = weight_of(dense.kernel, "kernel", "float32", fixed=False)
    assert layer.weight is dense.kernel
    np.testing.assert_array_equal(layer(X), dense.kernel)


@pytest.mark.parametrize("value", [[[0, 1, 2]], np.arange(4, dtype="float32")])
def test_a_constant_is_saved(value, tmp_path) -> None:
    inputs = keras.Input((3,))
    dtype = "int32" if isinstance(value, list) else "float32"
    model = keras.Model(inputs, Constant(value, dtype=dtype)(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X), value)
    assert loaded.outputs[0].dtype == dtype
