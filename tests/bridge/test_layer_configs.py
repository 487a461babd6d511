"""Conversion of one layer: what agrees is converted, what does not is named."""

from typing import Any

import keras
import pytest
import tf_keras

from tfprune.bridge.layer_configs import Side, one_line, target_name, translate
from tfprune.errors import ModelError

OLD, NEW = Side(tf_keras, "tf_keras"), Side(keras, "keras")


def bring(layer: Any, source: Side, target: Side) -> Any:
    return translate(layer, source, target, lambda inner: bring(inner, source, target))


def test_a_layer_and_its_inner_layers_are_rebuilt() -> None:
    old = tf_keras.layers.TimeDistributed(tf_keras.layers.LeakyReLU(0.5, name="in"), name="out")
    new = bring(old, OLD, NEW)
    assert isinstance(new, keras.layers.TimeDistributed)
    assert (new.name, new.layer.name, new.layer.negative_slope) == ("out", "in", 0.5)


def test_there_and_back_is_the_same_config() -> None:
    old = keras.layers.Conv2D(4, (3, 2), strides=2, kernel_regularizer="l1", name="c")
    again = bring(bring(old, NEW, OLD), OLD, NEW)
    ours, theirs = again.get_config(), old.get_config()
    assert float(ours.pop("kernel_regularizer")["config"]["l1"]) == pytest.approx(0.01)
    theirs.pop("kernel_regularizer")
    ours.pop("activity_regularizer"), theirs.pop("activity_regularizer")
    assert ours == theirs


def test_an_option_that_the_other_side_lacks_is_named() -> None:
    resizing = keras.layers.Resizing(2, 3, pad_to_aspect_ratio=True, name="n")
    with pytest.raises(ModelError, match="layer 'n' .*no counterpart of pad_to_aspect_ratio=True"):
        bring(resizing, NEW, OLD)

    class Own(keras.initializers.Initializer):
        def get_config(self) -> dict[str, Any]:
            return {}

    with pytest.raises(ModelError, match="its kernel_initializer Own has no counterpart"):
        bring(keras.layers.Dense(2, kernel_initializer=Own()), NEW, OLD)


def test_names_and_messages_are_made_fit() -> None:
    assert target_name("a/b", NEW) == "a_b"
    assert target_name("a/b", OLD) == "a/b"
    assert one_line(ValueError("two\nlines")) == "two lines"
    assert len(one_line(ValueError("x" * 999))) == 300
