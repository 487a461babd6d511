import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

import tfprune
from tests.structure.rebuild.conftest import chain
from tfprune.errors import ModelError
from tfprune.graph.rebuild import load
from tfprune.structure.groups.units import units
from tfprune.structure.rebuild.cut import uncut
from tfprune.structure.rebuild.rebuild import rebuild


def test_removing_nothing_is_the_identity() -> None:
    model = chain()
    found = units(model)
    same, _ = rebuild(uncut(found))
    data = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    np.testing.assert_array_equal(same(data), model(data))
    assert same.get_layer("a").kernel_regularizer is not None


def test_frozen_layers_and_compilation_are_carried_over() -> None:
    model = chain()
    model.get_layer("a").trainable = False
    model.compile("adam", "mse", metrics=["mae"])
    small, _ = tfprune.shrink(model, {"channels": 0.5}, round_to=1)
    assert not small.get_layer("a").trainable
    assert small.get_layer("b").trainable
    history = small.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0)
    assert set(history.history) == {"loss", "mae"}


def test_mixed_precision_is_kept_and_proven_in_float32(check) -> None:
    keras.config.set_dtype_policy("mixed_float16")
    try:
        inputs = keras.Input((8, 8, 3))
        x = kl.BatchNormalization()(kl.Conv2D(8, 3, name="conv")(inputs))
        x = kl.TimeDistributed(kl.Dense(6, name="inner"), name="td")(x)
        model = keras.Model(inputs, kl.Dense(2, dtype="float32")(kl.GlobalAveragePooling2D()(x)))
    finally:
        keras.config.set_dtype_policy("float32")
    small, _ = check(model)
    assert small.get_layer("conv").compute_dtype == "float16"
    assert small.get_layer("conv").variable_dtype == "float32"


def twice(x, training=False):
    return x * 2


def test_a_lambda_is_made_anew_around_the_same_function() -> None:
    inputs = keras.Input((4,))
    x = kl.Lambda(twice, name="twice")(kl.Dense(3, name="stays")(inputs))
    x = kl.Dense(8, name="cut")(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert small.get_layer("twice") is not model.get_layer("twice")
    assert ("stays", "twice has no rule (keras.Lambda)") in report.frozen


def mine(x):
    return x * keras.ops.sigmoid(x)


@pytest.mark.parametrize("kind", [kl.SimpleRNN, kl.GRU, kl.LSTM])
def test_activations_of_ones_own_in_recurrent_layers(kind) -> None:
    options = {} if kind is kl.SimpleRNN else {"recurrent_activation": mine}
    model = keras.Sequential([keras.Input((5, 4)), kind(8, activation=mine, **options)])
    model.add(kl.Dense(2))
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error <= 1e-5
    assert small.layers[-2].activation is mine


@keras.saving.register_keras_serializable("test_rebuild")
class Counted(keras.initializers.Initializer):
    calls = 0

    def __call__(self, shape, dtype=None):
        Counted.calls += 1
        return keras.ops.full(shape, 0.5, dtype)

    def get_config(self):
        return {}


def test_no_initializer_makes_numbers_that_are_written_over() -> None:
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(8, 3, kernel_initializer=Counted(), name="conv")(inputs)
    x = kl.Reshape((-1, 8))(kl.BatchNormalization(gamma_initializer=Counted())(x))
    x = kl.MultiHeadAttention(2, 4, kernel_initializer=Counted())(x, x)
    x = kl.Bidirectional(kl.LSTM(4, kernel_initializer=Counted()))(x)
    model = keras.Model(inputs, kl.Dense(2)(x))
    before = Counted.calls
    assert before >= 8
    small, _ = tfprune.shrink(model, {"channels": 0.5}, round_to=1, verify=False)
    assert Counted.calls == before
    assert isinstance(small.get_layer("conv").kernel_initializer, Counted)


def test_the_small_model_shares_no_memory_with_the_original() -> None:
    model = chain()
    small, _ = tfprune.shrink(model, {"channels": 1.0})
    before = [weight.copy() for weight in model.get_weights()]
    for variable in small.variables:
        variable.value.assign_add(np.ones(variable.shape, "float32"))
    for was, now, grown in zip(before, model.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
        np.testing.assert_array_equal(was + 1, grown)
    for variable in model.variables:
        variable.value.assign_add(np.full(variable.shape, 5, "float32"))
    for was, grown in zip(before, small.get_weights(), strict=True):
        np.testing.assert_array_equal(was + 1, grown)


def test_a_variable_that_had_a_value_already_is_left_to_be_assigned() -> None:
    early, late = kl.Dense(2, use_bias=False), kl.Dense(2, use_bias=False)
    early.build((None, 3))
    kernel = np.arange(6, dtype="float32").reshape(3, 2)
    with keras.StatelessScope():
        late.build((None, 3))
        assert load(late, [kernel]) == []
        ((variable, array),) = load(early, [kernel])
    assert variable is early.kernel
    assert array is kernel
    np.testing.assert_array_equal(late.kernel, kernel)


class NoConfig(keras.layers.Layer):
    def __init__(self, table):
        super().__init__(name="no_config")
        self.table = table

    def call(self, x):
        return tf.identity(x)


class Factor(keras.layers.Layer):
    """Its config omits an argument that it requires."""

    def __init__(self, factor, power=1, **kwargs):
        super().__init__(**kwargs)
        self.factor, self.power = factor, power
        self.draws = keras.random.SeedGenerator(0)  # it draws, so it is not unrolled

    def call(self, x):
        return self.factor * x**self.power + keras.random.normal((4,), seed=self.draws)

    def get_config(self):
        return {**super().get_config(), "power": self.power}


def test_an_argument_that_a_config_omits_is_that_of_the_original() -> None:
    inputs = keras.Input((4,))
    x = Factor(3.0, power=2, name="factor")(kl.Dense(4, name="before")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8, name="after")(x)))
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    made = small.get_layer("factor")
    assert report.error <= 1e-4
    assert (made.factor, made.power) == (3.0, 2)


class Scaled(keras.layers.Layer):
    """Its config gives a weight in the place of the argument it was made from."""

    def __init__(self, scale, shift, **kwargs):
        super().__init__(**kwargs)
        self.scale, self.shift = scale, shift
        self.dense = kl.Dense(4, name="inner")
        self.draws = keras.random.SeedGenerator(0)  # it draws, so it is not unrolled

    def build(self, shape):
        first = keras.initializers.Constant(self.scale)
        self.scale = self.add_weight(shape=(1,), initializer=first, name="scale")
        self.dense.build(shape)

    def call(self, x):
        return self.dense(self.scale * x) + keras.random.normal((4,), seed=self.draws)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale, "shift": self.shift}


@pytest.mark.parametrize("shift", [1.0, keras.initializers.Zeros()])
def test_a_weight_in_a_config_is_the_argument_that_it_replaced(shift) -> None:
    inputs = keras.Input((4,))
    x = Scaled(3.0, shift, name="scaled")(kl.Dense(4, name="before")(inputs))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(8, name="after")(x)))
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error <= 1e-4
    assert len(small.get_layer("scaled").weights) == len(model.get_layer("scaled").weights)


def test_a_layer_that_cannot_be_made_again_is_named() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(8)(NoConfig(object())(inputs))
    model = keras.Model(inputs, kl.Dense(2)(x))
    with pytest.raises(ModelError, match="'no_config' .* cannot be made from its config"):
        tfprune.shrink(model, {"channels": 0.5}, round_to=1)


def test_weights_that_do_not_fit_name_the_layer() -> None:
    layer = kl.Dense(2, name="narrow")
    layer.build((None, 3))
    with pytest.raises(ModelError, match=r"'narrow' was rebuilt with weights"):
        load(layer, [np.zeros((3, 4)), np.zeros(4)])
