import keras
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import ModelError


def test_einsum_layers_pass_sizes_on(check) -> None:
    inputs = keras.Input((None, 6))
    x = kl.EinsumDense("btd,dhk->bthk", output_shape=(None, 3, 4), name="up")(inputs)
    x = kl.EinsumDense("bthk,hkd->btd", output_shape=(None, 8), name="down")(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    _, report = tfprune.shrink(model, {"macs": 0.5}, round_to=1, input_shape=(10, 6))
    assert report.before.macs == 10 * (6 * 3 * 4 + 3 * 4 * 8 + 8 * 2)
    assert report.achieved <= 0.5


class Shy(keras.layers.Layer):
    """It cannot say what its output is for another shape than its first one."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), name="scale")
        self.first = shape

    def compute_output_spec(self, x):
        if hasattr(self, "first") and tuple(x.shape) != tuple(self.first):
            raise RuntimeError("another shape")
        return keras.KerasTensor(x.shape, dtype=x.dtype)

    def call(self, x):
        return x * self.scale


def test_a_layer_without_a_rule_need_not_know_its_output() -> None:
    inputs = keras.Input((None, 6))
    x = Shy(name="shy")(inputs)
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8, name="hidden")(x)))
    found = tfprune.units(model, input_shape=(10, 6))
    assert [group.name for group in found] == ["hidden"]


def test_wrong_shapes_are_errors() -> None:
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, kl.GlobalAveragePooling2D()(kl.Conv2D(4, 5)(inputs)))
    with pytest.raises(ValueError, match="negative"):
        tfprune.units(model, input_shape=(3, 3, 3))


def test_a_shape_that_a_layer_cannot_take_is_one_line() -> None:
    inputs = keras.Input((None, None, 3))
    x = kl.Conv2D(4, 3, name="one")(inputs)
    x = kl.Conv2D(4, 3, name="two")(x)
    model = keras.Model(inputs, kl.GlobalAveragePooling2D()(x))
    said = r"two cannot take .*\(None, 2, 2, 4\), batch first.*[^.]\. Pass another input_shape=$"
    with pytest.raises(ModelError, match=said) as told:
        tfprune.units(model, input_shape=(4, 4, 3))
    assert "\n" not in str(told.value)


class Sampled(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.numbers = keras.random.SeedGenerator(3)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.numbers)


def test_the_random_numbers_of_a_layer_do_not_go_on() -> None:
    inputs = keras.Input((4,))
    layer = Sampled()
    model = keras.Model(inputs, kl.Dense(2)(layer(kl.Dense(8)(inputs))))
    before = keras.ops.convert_to_numpy(layer.numbers.state).tolist()
    tfprune.units(model)
    assert keras.ops.convert_to_numpy(layer.numbers.state).tolist() == before


class Crooked(kl.Layer):
    """It has no rule, and what it says of its output is wrong."""

    def call(self, x):
        return keras.ops.flip(keras.ops.cumsum(x, axis=1), axis=1)

    def compute_output_shape(self, shape):
        return 1 / 0 if None not in shape else shape


def test_a_layer_that_says_nothing_of_its_output_is_asked_to_compute() -> None:
    x = inputs = keras.Input((None, 6))
    x = Crooked(name="own", trainable=False)(kl.Dense(4)(x))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8, name="after")(x)))
    found = tfprune.units(model, input_shape=(10, 6))
    assert found.prunable_share > 0
