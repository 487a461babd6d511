import keras
import pytest
import tf_keras

from tfprune.bridge.pair_weights import base_name, pair_weights
from tfprune.errors import ModelError


def built(layer, *shape):
    layer.build(shape)
    return layer


def test_weights_are_paired_by_name() -> None:
    old = built(tf_keras.layers.DepthwiseConv2D(3), None, 8, 8, 4)
    new = built(keras.layers.DepthwiseConv2D(3), None, 8, 8, 4)
    names = [(base_name(a), base_name(b)) for a, b in pair_weights(old, new)]
    assert names == [("kernel", "kernel"), ("bias", "bias")]


def test_a_wrapper_leaves_out_the_weights_of_its_layer() -> None:
    old = built(tf_keras.layers.TimeDistributed(tf_keras.layers.Dense(3)), None, 5, 4)
    new = built(keras.layers.TimeDistributed(keras.layers.Dense(3)), None, 5, 4)
    assert pair_weights(old, new) == []


@pytest.mark.parametrize(
    "other", [keras.layers.Dense(3, use_bias=False), keras.layers.Dense(2), keras.layers.PReLU()]
)
def test_weights_that_do_not_match_are_named(other) -> None:
    old = built(tf_keras.layers.Dense(3, name="d"), None, 4)
    with pytest.raises(ModelError, match=r"'d' .* has the weights kernel\(4, 3\), bias\(3,\), and"):
        pair_weights(old, built(other, None, 4))
