"""The two generations are told apart, and one callback serves a model of each."""

import keras
import pytest
import tf_keras

import tfprune
from tfprune.keras_support.generation import is_tf_keras, is_tfmot
from tfprune.tfmot_compat.adapter import sparsity_api


class Mine(tf_keras.layers.Dense):
    pass


@pytest.mark.parametrize(
    ("value", "old"),
    [
        (tf_keras.layers.Dense(1), True),
        (Mine(1), True),
        (tf_keras.Sequential(), True),
        ([tf_keras.layers.Dense(1)], True),
        (keras.layers.Dense(1), False),
        ([keras.layers.Dense(1)], False),
        ([], False),
        (3, False),
        ("tf_keras", False),
    ],
)
def test_models_layers_and_lists_are_told_apart(value, old) -> None:
    assert is_tf_keras(value) is old


def test_the_peers_schedules_are_known_also_when_subclassed() -> None:
    class Subclass(sparsity_api().ConstantSparsity):
        pass

    assert is_tfmot(Subclass(0.5, 0))
    assert not is_tfmot(tfprune.ConstantSparsity(0.5, 0))
