import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as kl
from keras import ops
from keras.src.applications.convnext import LayerScale

import tfprune
from tfprune.graph.rebuild import execute, read_weights
from tfprune.structure.depth.constants import find_constants, is_zero
from tfprune.structure.groups.units import units


def constant_of(model):
    """What is known of the output, checked against what the model gives for random inputs."""
    found = units(model)
    known = find_constants(found.graph, read_weights(found.graph))
    rng = np.random.default_rng(3)
    for ref in (ref for ref in [found.graph.outputs] if ref.index in known):
        for _ in range(2):
            data = rng.normal(size=(2, *model.input_shape[1:])).astype("float32") * 3
            given = np.asarray(model(data))
            np.testing.assert_allclose(given, np.broadcast_to(known[ref.index], given.shape),
                                       rtol=1e-5, atol=1e-6)  # fmt: skip
    return known.get(found.graph.outputs.index)


def closed(layer, bias=0.0):
    """A layer whose kernel is zero."""
    layer.kernel_initializer = keras.initializers.Zeros()
    layer.bias_initializer = keras.initializers.Constant(bias)
    return layer


def model_of(make, shape=(6, 6, 3)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, make(inputs))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: closed(kl.Conv2D(4, 3))(x),
        lambda x: kl.ReLU()(kl.MaxPooling2D()(closed(kl.Conv2D(4, 3))(x))),
        lambda x: kl.Conv2D(4, 3)(kl.ZeroPadding2D()(closed(kl.Conv2D(4, 3))(x))),
        lambda x: kl.BatchNormalization(gamma_initializer="zeros")(kl.Conv2D(4, 3)(x)),
        lambda x: LayerScale(0.0, 3)(x),
        lambda x: x * closed(kl.Dense(3))(x),
        lambda x: kl.Multiply()([closed(kl.Dense(3))(x), x]),
        lambda x: closed(kl.Dense(3))(x) * 4.0 + closed(kl.Dense(3))(x),
        lambda x: kl.Dropout(0.5)(ops.tanh(closed(kl.Dense(3))(x))),
        lambda x: kl.LayerNormalization(gamma_initializer="zeros")(x),
        lambda x: kl.Concatenate()([closed(kl.Dense(3))(x), closed(kl.Dense(2))(x)]),
    ],
)
def test_tensors_that_are_zero_for_every_input_are_found(make) -> None:
    assert is_zero(constant_of(model_of(make)))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: closed(kl.Conv2D(4, 3, activation="sigmoid"))(x),
        lambda x: closed(kl.Conv2D(4, 3), bias=0.5)(x),
        lambda x: kl.BatchNormalization(beta_initializer="ones")(closed(kl.Conv2D(4, 1), 2.0)(x)),
        lambda x: kl.BatchNormalization(gamma_initializer="zeros", beta_initializer="ones")(x),
        lambda x: kl.BatchNormalization(axis=1, beta_initializer="normal")(
            closed(kl.Dense(3), 1.0)(x) * 0.0
        ),
        lambda x: kl.LayerNormalization(gamma_initializer="zeros", beta_initializer="normal")(x),
        lambda x: kl.RMSNormalization()(closed(kl.Dense(3))(x)) + 1.0,
        lambda x: ops.exp(closed(kl.Dense(3), 0.3)(x)) - closed(kl.Dense(3), 0.1)(x),
    ],
)
def test_tensors_that_are_constant_for_every_input_are_found(make) -> None:
    value = constant_of(model_of(make))
    assert value is not None
    assert not is_zero(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: kl.ReLU()(kl.Dense(3, bias_initializer=keras.initializers.Constant(-99.0))(x)),
        lambda x: kl.Softmax()(x),
        lambda x: closed(kl.Dense(3))(x) + x,
        lambda x: kl.BatchNormalization()(x),
        lambda x: kl.Conv2D(4, 3, padding="same")(closed(kl.Dense(3), 1.0)(x)),
        lambda x: kl.ZeroPadding2D()(closed(kl.Dense(3), 1.0)(x)),
        lambda x: kl.Activation(lambda t: t - t)(x),
    ],
)
def test_tensors_that_only_seem_constant_are_not_reported(make) -> None:
    """A ReLU that is zero on all samples may be nonzero on others."""
    assert constant_of(model_of(make)) is None


@pytest.mark.parametrize("part", ["output", "value"])
def test_closed_attention_is_constant(part) -> None:
    inputs = keras.Input((5, 6))
    layer = kl.MultiHeadAttention(2, 4, name="mha", bias_initializer="zeros")
    model = keras.Model(inputs, layer(inputs, inputs))
    assert constant_of(model) is None
    dense = layer.output_dense if part == "output" else layer.value_dense
    dense.kernel.assign(dense.kernel * 0)
    assert is_zero(constant_of(model))
    layer.output_dense.bias.assign(np.arange(6.0))
    np.testing.assert_array_equal(constant_of(model), np.arange(6.0))


def test_gates_and_channels_first() -> None:
    inputs = keras.Input((3, 6, 6))
    gate = tfprune.layers.ChannelGate("hard", axis=1)
    model = keras.Model(inputs, kl.BatchNormalization(axis=1, beta_initializer="normal")(
        gate(inputs)))  # fmt: skip
    assert constant_of(model) is None
    gate.close([0, 1, 2])
    assert constant_of(model).shape == (3, 1, 1)


STEPS = st.lists(
    st.sampled_from(["dense", "zero", "scale", "relu", "norm", "flat_norm", "skip", "product"]),
    min_size=1,
    max_size=6,
)


@settings(max_examples=25)
@given(steps=STEPS)
def test_every_reported_constant_is_constant(steps) -> None:
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(len(steps))
    inputs = keras.Input((4,))
    x = first = kl.Dense(4)(inputs)
    for step in steps:
        if step == "dense":
            x = kl.Dense(4, bias_initializer="normal")(x)
        elif step == "zero":
            x = closed(kl.Dense(4), 0.25)(x)
        elif step == "scale":
            x = LayerScale(0.0, 4)(x)
        elif step == "relu":
            x = kl.ReLU()(x)
        elif step == "norm":
            x = kl.BatchNormalization(moving_mean_initializer="normal")(x)
        elif step == "flat_norm":
            x = kl.BatchNormalization(gamma_initializer="zeros", beta_initializer="normal")(x)
        elif step == "skip":
            x = x + first
        elif step == "product":
            x = x * first
    model = keras.Model(inputs, x)
    found = units(model)
    known = find_constants(found.graph, read_weights(found.graph))
    seen = {}

    def run(call, args, kwargs):
        made = call.op(*args, **kwargs)
        seen[call.outputs[0].index] = np.asarray(made)
        return made

    data = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    execute(found.graph, [ops.convert_to_tensor(data)], run)
    for index, value in known.items():
        np.testing.assert_allclose(
            seen[index], np.broadcast_to(value, (5, 4)), rtol=1e-5, atol=1e-6
        )
