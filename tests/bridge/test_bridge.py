"""Conversion to the other generation of Keras: layers, names, weights and outputs."""

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfprune
from tfprune.bridge import bridge
from tfprune.bridge.agreement import difference, verify
from tfprune.bridge.pair_weights import base_name
from tfprune.errors import ModelError, ScheduleWarning

BOTH = [pytest.param(tf_keras, tfprune.to_keras3), pytest.param(keras, tfprune.to_tf_keras)]


def scramble(model: Any) -> Any:
    """Give a model random weights, variances positive among them."""
    random = np.random.default_rng(0)
    weights = [np.asarray(w) for w in model.get_weights()]
    model.set_weights(
        [
            random.uniform(0.1, 1.5, w.shape).astype(w.dtype) if w.dtype.kind == "f" else w
            for w in weights
        ]
    )
    for layer in model.layers:
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def names_of_weights(model: Any) -> list[str]:
    names = [base_name(weight) for weight in model.trainable_weights]
    # Keras 3 gives the one weight of LayerScale no name.
    return sorted("gamma" if name.startswith("variable") else name for name in names)


def layers_of(model: Any) -> dict[str, str]:
    # Functions are layers in tf_keras only, and the order of parallel branches is free.
    return {
        layer.name.replace("/", "_"): type(layer).__name__
        for layer in model.layers
        if not type(layer).__name__.endswith("OpLambda")
    }


def assert_same(old: Any, new: Any) -> None:
    other = keras if isinstance(old, tf_keras.Model) else tf_keras
    assert isinstance(new, other.Model)
    assert layers_of(old) == layers_of(new)
    assert old.name == new.name
    assert old.count_params() == new.count_params()
    assert names_of_weights(old) == names_of_weights(new)


SHAPES = {1: (4,), 2: (8, 4), 3: (8, 8, 4), 4: (6, 6, 6, 4)}
LAYERS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "dense": (1, lambda m: m.Dense(3, "relu", kernel_regularizer="l2", bias_constraint="max_norm")),
    "dense without bias": (1, lambda m: m.Dense(3, use_bias=False, activation="swish")),
    "einsum dense": (2, lambda m: m.EinsumDense("abc,cd->abd", (8, 5), bias_axes="d")),
    "conv1d causal": (2, lambda m: m.Conv1D(3, 3, padding="causal")),
    "conv2d grouped, dilated": (3, lambda m: m.Conv2D(4, 3, groups=2, dilation_rate=2)),
    "conv2d strided": (3, lambda m: m.Conv2D(4, (3, 2), strides=2, padding="same")),
    "conv3d": (4, lambda m: m.Conv3D(3, 2)),
    "conv1d transposed": (2, lambda m: m.Conv1DTranspose(3, 3, strides=2)),
    "conv2d transposed": (3, lambda m: m.Conv2DTranspose(3, 3, strides=2, padding="same")),
    "conv3d transposed": (4, lambda m: m.Conv3DTranspose(3, 2)),
    "depthwise 1d": (2, lambda m: m.DepthwiseConv1D(3)),
    "depthwise 2d": (3, lambda m: m.DepthwiseConv2D(3, depth_multiplier=2)),
    "separable 1d": (2, lambda m: m.SeparableConv1D(3, 3)),
    "separable 2d": (3, lambda m: m.SeparableConv2D(5, 3)),
    "batch norm": (3, lambda m: m.BatchNormalization(momentum=0.9, epsilon=0.01)),
    "batch norm, another axis": (3, lambda m: m.BatchNormalization(axis=1, scale=False)),
    "layer norm": (3, lambda m: m.LayerNormalization(axis=[2, 3], center=False)),
    "group norm": (3, lambda m: m.GroupNormalization(2)),
    "unit norm": (3, lambda m: m.UnitNormalization()),
    "normalization": (3, lambda m: m.Normalization()),
    "normalization, given": (1, lambda m: m.Normalization(mean=[1.0] * 4, variance=[2.0] * 4)),
    "rescaling": (3, lambda m: m.Rescaling(1 / 255, offset=[1.0, 2.0, 3.0, 4.0])),
    "resizing": (3, lambda m: m.Resizing(5, 6, interpolation="bilinear")),
    "center crop": (3, lambda m: m.CenterCrop(4, 4)),
    "random flip": (3, lambda m: m.RandomFlip()),
    "max pool 1d": (2, lambda m: m.MaxPooling1D(2)),
    "max pool 2d": (3, lambda m: m.MaxPooling2D(3, 2, padding="same")),
    "max pool 3d": (4, lambda m: m.MaxPooling3D(2)),
    "average pool 1d": (2, lambda m: m.AveragePooling1D(2)),
    "average pool 2d": (3, lambda m: m.AveragePooling2D(3, 2)),
    "average pool 3d": (4, lambda m: m.AveragePooling3D(2)),
    "global average 1d": (2, lambda m: m.GlobalAveragePooling1D()),
    "global average 2d": (3, lambda m: m.GlobalAveragePooling2D(keepdims=True)),
    "global average 3d": (4, lambda m: m.GlobalAveragePooling3D()),
    "global max 1d": (2, lambda m: m.GlobalMaxPooling1D()),
    "global max 2d": (3, lambda m: m.GlobalMaxPooling2D()),
    "global max 3d": (4, lambda m: m.GlobalMaxPooling3D()),
    "zero padding 1d": (2, lambda m: m.ZeroPadding1D(2)),
    "zero padding 2d": (3, lambda m: m.ZeroPadding2D(((1, 0), (2, 1)))),
    "zero padding 3d": (4, lambda m: m.ZeroPadding3D()),
    "cropping 1d": (2, lambda m: m.Cropping1D(1)),
    "cropping 2d": (3, lambda m: m.Cropping2D(1)),
    "cropping 3d": (4, lambda m: m.Cropping3D()),
    "upsampling 1d": (2, lambda m: m.UpSampling1D(2)),
    "upsampling 2d": (3, lambda m: m.UpSampling2D(2, interpolation="bilinear")),
    "upsampling 3d": (4, lambda m: m.UpSampling3D()),
    "relu": (3, lambda m: m.ReLU(6.0, negative_slope=0.1, threshold=0.2)),
    "leaky relu": (3, lambda m: m.LeakyReLU(0.17)),
    "prelu": (3, lambda m: m.PReLU(shared_axes=[1, 2])),
    "elu": (3, lambda m: m.ELU(0.5)),
    "softmax": (3, lambda m: m.Softmax(axis=1)),
    "activation gelu": (3, lambda m: m.Activation("gelu")),
    "activation silu": (3, lambda m: m.Activation("swish")),
    "dropout": (3, lambda m: m.Dropout(0.5, seed=3)),
    "spatial dropout": (3, lambda m: m.SpatialDropout2D(0.4)),
    "gaussian noise": (3, lambda m: m.GaussianNoise(0.4)),
    "gaussian dropout": (3, lambda m: m.GaussianDropout(0.4)),
    "alpha dropout": (3, lambda m: m.AlphaDropout(0.4)),
    "activity regularization": (3, lambda m: m.ActivityRegularization(0.1)),
    "flatten": (3, lambda m: m.Flatten()),
    "reshape": (3, lambda m: m.Reshape((16, -1))),
    "permute": (3, lambda m: m.Permute((3, 1, 2))),
    "repeat": (1, lambda m: m.RepeatVector(3)),
    "identity": (1, lambda m: m.Identity()),
    "masking": (2, lambda m: m.Masking(0.5)),
    "lstm": (2, lambda m: m.LSTM(3, return_sequences=True)),
    "lstm, its options": (
        2,
        lambda m: m.LSTM(3, go_backwards=True, unroll=True, use_bias=False, dropout=0.1),
    ),
    "gru": (2, lambda m: m.GRU(3)),
    "gru, reset before": (2, lambda m: m.GRU(3, reset_after=False)),
    "simple rnn": (2, lambda m: m.SimpleRNN(3)),
    "rnn of cells": (2, lambda m: m.RNN([m.LSTMCell(3), m.GRUCell(4)])),
    "rnn of a cell": (2, lambda m: m.RNN(m.SimpleRNNCell(3))),
    "conv lstm 1d": (3, lambda m: m.ConvLSTM1D(3, 2, recurrent_activation="sigmoid")),
    "conv lstm 2d": (4, lambda m: m.ConvLSTM2D(3, 2, recurrent_activation="sigmoid")),
    "bidirectional": (
        2,
        lambda m: m.Bidirectional(m.LSTM(3, return_sequences=True), merge_mode="sum"),
    ),
    "bidirectional of two": (
        2,
        lambda m: m.Bidirectional(m.GRU(3), backward_layer=m.SimpleRNN(3, go_backwards=True)),
    ),
    "time distributed": (3, lambda m: m.TimeDistributed(m.Conv1D(3, 2))),
}


@pytest.mark.parametrize(("api", "over"), BOTH)
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_converted(api: Any, over: Callable[[Any], Any], name: str) -> None:
    rank, make = LAYERS[name]
    old = api.Sequential(
        [api.layers.InputLayer(SHAPES[rank]), make(api.layers)]
        if api is tf_keras
        else [api.Input(SHAPES[rank]), make(api.layers)]
    )
    new = over(scramble(old))
    assert_same(old, new)
    assert type(new).__name__ == "Sequential"
    for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


MERGES = {
    "Add": {}, "Subtract": {}, "Multiply": {}, "Average": {}, "Maximum": {}, "Minimum": {},
    "Concatenate": {"axis": 1}, "Dot": {"axes": 2, "normalize": True},
    "Attention": {"use_scale": True, "score_mode": "concat"}, "AdditiveAttention": {},
}  # fmt: skip


@pytest.mark.parametrize(("api", "over"), BOTH)
@pytest.mark.parametrize("name", MERGES)
def test_every_merging_layer_is_converted(api: Any, over: Callable[[Any], Any], name: str) -> None:
    a, b = api.Input((5, 4), name="a"), api.Input((5, 4), name="b")
    merge = getattr(api.layers, name)(**MERGES[name])
    old = scramble(api.Model([a, b], merge([a, b])))
    assert_same(old, over(old))


def attention(m: Any, api: Any) -> Any:
    tokens = api.Input((6,), dtype="int32", name="tokens")
    x = m.Embedding(9, 8)(tokens)
    y, scores = m.MultiHeadAttention(2, 3, value_dim=4)(
        x, x, return_attention_scores=True, use_causal_mask=True
    )
    return api.Model(tokens, {"y": y, "scores": scores})


def states(m: Any, api: Any) -> Any:
    x, h, c = api.Input((5, 4)), api.Input((3,)), api.Input((3,))
    y, *state = m.LSTM(3, return_state=True, return_sequences=True)(x, initial_state=[h, c])
    return api.Model([x, h, c], [m.GRU(3)(y, initial_state=state[0]), y])


def states_both_ways(m: Any, api: Any) -> Any:
    x, h, c = api.Input((5, 4)), api.Input((3,)), api.Input((3,))
    return api.Model([x, h, c], m.Bidirectional(m.GRU(3))(x, initial_state=[h, c]))


def mask_zero(m: Any, api: Any) -> Any:
    tokens = api.Input((6,), dtype="int32")
    x = m.LSTM(3, return_sequences=True)(m.Embedding(7, 5, mask_zero=True)(tokens))
    return api.Model(tokens, m.Bidirectional(m.GRU(2))(x))


def mask_given(m: Any, api: Any) -> Any:
    x, mask = api.Input((5, 4)), api.Input((5,), dtype="bool")
    return api.Model([x, mask], m.LSTM(3)(x, mask=mask))


def nested(m: Any, api: Any) -> Any:
    """Two models inside, one of them shared and frozen; dicts and lists at the ends."""
    image = api.Input((8, 8, 3))
    x = m.BatchNormalization()(m.Conv2D(4, 3)(image))
    base = api.Model(image, [x, m.ReLU()(x)], name="base")
    head = api.Sequential([m.Flatten(), m.Dense(4)], name="head")
    ends = {"p": api.Input((8, 8, 3), name="p"), "q": api.Input((8, 8, 3), name="q")}
    a, b = base(ends["p"], training=False)
    c, d = base(ends["q"])
    base.trainable = False
    return api.Model(ends, {"o": head(m.Add()([a, d])), "r": [head(c), b]})


def a_model_at_each_step(m: Any, api: Any) -> Any:
    start = api.Input((4,))
    inner = api.Model(start, m.Dense(3, trainable=False)(m.BatchNormalization()(start)))
    x = api.Input((5, 4))
    return api.Model(x, m.TimeDistributed(inner)(x))


def float_tokens(m: Any, api: Any) -> Any:
    tokens = api.Input((6,))
    return api.Model(tokens, m.GlobalAveragePooling1D()(m.Embedding(7, 5)(tokens)))


def open_sizes(m: Any, api: Any) -> Any:
    x = api.Input((None, None, 3))
    return api.Model(x, m.Conv2D(2, 3)(x))


GRAPHS = [attention, states, states_both_ways, mask_zero, mask_given, nested,
          a_model_at_each_step, float_tokens, open_sizes]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("api", "over"), BOTH)
@pytest.mark.parametrize("build", GRAPHS)
def test_graphs_are_converted(api: Any, over: Callable[[Any], Any], build: Any) -> None:
    old = scramble(build(api.layers, api))
    new = over(old)
    assert_same(old, new)


def test_names_structure_and_trainable_flags_are_kept() -> None:
    old = scramble(nested(tf_keras.layers, tf_keras))
    new = tfprune.to_keras3(old)
    x = {key: np.random.default_rng(1).random((3, 8, 8, 3), "float32") for key in "pq"}
    theirs, ours = old(x), new(x)
    assert ours.keys() == {"o", "r"}
    assert len(ours["r"]) == 2
    np.testing.assert_allclose(ours["o"], theirs["o"], rtol=1e-5)
    assert not new.get_layer("base").trainable
    assert new.get_layer("head").trainable


@pytest.mark.parametrize(("api", "over"), BOTH)
def test_options_of_training_are_converted(api: Any, over: Callable[[Any], Any]) -> None:
    m = api.layers
    old = api.Sequential(
        [
            api.Input((4,)) if api is keras else m.InputLayer((4,)),
            m.Dense(4, kernel_regularizer=api.regularizers.L1(0.25), kernel_initializer="he_normal",
                    dtype="mixed_float16"),
            m.Dense(2, dtype="float32", kernel_constraint=api.constraints.MaxNorm(1.5, axis=1)),
        ]
    )  # fmt: skip
    first, last = over(old).layers
    assert float(first.kernel_regularizer.l1) == 0.25
    assert type(first.kernel_initializer).__name__ == "HeNormal"
    assert first.dtype_policy.name == "mixed_float16"
    assert (last.kernel_constraint.max_value, last.kernel_constraint.axis) == (1.5, 1)


def test_padding_has_the_same_effect_on_attention(caplog) -> None:
    tokens = tf_keras.Input((6,), dtype="int32")
    x = tf_keras.layers.Embedding(9, 8, mask_zero=True)(tokens)
    x = tf_keras.layers.MultiHeadAttention(2, 3)(x, x)
    old = scramble(tf_keras.Model(tokens, tf_keras.layers.GlobalAveragePooling1D()(x)))
    with caplog.at_level(logging.WARNING):
        new = tfprune.to_keras3(old)
    assert not caplog.records
    padded = np.array([[1, 2, 3, 0, 0, 0]])
    np.testing.assert_allclose(new(padded), old(padded), rtol=1e-5)


APPLICATIONS = [
    ("MobileNetV2", {"alpha": 0.35, "input_shape": (96, 96, 3)}),
    ("MobileNetV3Small", {"alpha": 0.75, "input_shape": (64, 64, 3)}),
    pytest.param("ConvNeXtTiny", {"input_shape": (32, 32, 3)}, marks=pytest.mark.slow),
    pytest.param("EfficientNetB0", {"input_shape": (64, 64, 3)}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "options"), APPLICATIONS)
@pytest.mark.slow
def test_applications_are_converted_there_and_back(name: str, options: dict[str, Any]) -> None:
    old = getattr(tf_keras.applications, name)(weights=None, classes=10, **options)
    random = np.random.default_rng(0)
    for layer in old.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.set_weights([random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    new = tfprune.to_keras3(old)
    assert_same(old, new)
    back = tfprune.to_tf_keras(new)
    assert_same(new, back)
    x = random.random((2, *options["input_shape"]), "float32")
    assert difference(np.asarray(old(x)), np.asarray(back(x))) < 1e-5


def small_convnet() -> Any:
    m = tf_keras.layers
    layers = [m.InputLayer((16, 16, 3)), m.Conv2D(32, 3), m.BatchNormalization(), m.ReLU(),
              m.Conv2D(32, 3), m.GlobalAveragePooling2D(), m.Dense(5)]  # fmt: skip
    return scramble(tf_keras.Sequential(layers))


def test_a_converted_model_can_be_pruned_shrunk_and_converted_back() -> None:
    model = tfprune.to_keras3(small_convnet())
    tfprune.prune(model, 0.5)
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 16, 16, 3)), np.ones((8, 5)), verbose=0, epochs=2)
    with pytest.raises(ModelError, match="to_tf_keras: .* is being pruned.*strip_pruning first"):
        tfprune.to_tf_keras(model)
    stripped = tfprune.strip_pruning(model)
    back = tfprune.to_tf_keras(stripped)
    assert [np.count_nonzero(w) for w in back.get_weights()] == [
        np.count_nonzero(w) for w in stripped.get_weights()
    ]
    small, _ = tfprune.shrink(stripped, {"channels": 0.5})
    assert small.count_params() < 0.5 * stripped.count_params()


def test_wrappers_of_the_peer_are_refused() -> None:
    wrapped = tfprune.prune_low_magnitude(small_convnet(), tfprune.ConstantSparsity(0.5, 0))
    with pytest.raises(ModelError, match="'prune_low_magnitude_conv2d.*strip_pruning first"):
        tfprune.to_keras3(wrapped)
    with pytest.warns(ScheduleWarning, match="never fired"):
        stripped = tfprune.strip_pruning(wrapped)
    assert tfprune.to_keras3(stripped).count_params() == small_convnet().count_params()


class Mine(tf_keras.layers.Dense):
    pass


class Subclassed(tf_keras.Model):
    def call(self, inputs: Any) -> Any:
        return inputs


def sequential(*layers: Any) -> Any:
    return tf_keras.Sequential([tf_keras.layers.InputLayer((4, 4)), *layers])


def with_operation(function: Callable[[Any], Any]) -> Any:
    x = tf_keras.Input((4,))
    return tf_keras.Model(x, function(tf_keras.layers.Dense(2)(x)))


def own_activation(x: Any) -> Any:
    return x


L = tf_keras.layers
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: sequential(L.Lambda(lambda x: x, name="f")), "'f' .tf_keras.Lambda. contains Python"),
    (lambda: sequential(Mine(2, name="d")), "'d' .*Mine. is not a built-in layer of tf_keras"),
    (lambda: with_operation(tf.shape), "compat.v1.shape, .* without a counterpart"),
    (lambda: sequential(L.LocallyConnected1D(2, 2, name="l")), "keras has no layer LocallyConn"),
    (lambda: sequential(L.LSTM(2, recurrent_activation="hard_sigmoid")), "a different function"),
    (lambda: sequential(L.Dense(2, activation=own_activation)), "its activation .* no counterpart"),
    (lambda: sequential(L.LSTM(2, time_major=True)), "no counterpart of time_major=True"),
    (Subclassed, "subclassed"),
    (lambda: tf_keras.Sequential([L.Dense(2)]), "is not built: begin it with an Input layer"),
    (lambda: keras.Sequential([keras.Input((2,))]), "expected a tf_keras.Model. Received keras.S"),
    (lambda: 3, "expected a tf_keras.Model. Received int"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_a_part_without_a_counterpart_is_named(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        tfprune.to_keras3(build())
    assert str(error.value).startswith("to_keras3: ")
    assert "\n" not in str(error.value)


def test_a_layer_that_only_keras_3_has_is_named() -> None:
    for layer, message in (
        (keras.layers.RMSNormalization(name="n"), "'n' .*tf_keras has no layer RMSNormalization"),
        (keras.layers.Activation("celu", name="a"), "'a' .*'celu' has no counterpart"),
    ):
        with pytest.raises(ModelError, match=message):
            tfprune.to_tf_keras(keras.Sequential([keras.Input((4,)), layer]))
    x = keras.Input((4,))
    with pytest.raises(ModelError, match="to_tf_keras: 'celu' .*Celu, .* without a counterpart"):
        tfprune.to_tf_keras(keras.Model(x, keras.ops.celu(keras.layers.Dense(2)(x))))


def test_dropout_is_active_in_training_and_a_fixed_mode_is_reported(caplog) -> None:
    start = keras.Input((100,))
    new = tfprune.to_tf_keras(keras.Model(start, keras.layers.Dropout(0.5)(start)))
    ones = np.ones((1, 100), np.float32)
    assert 0 < np.count_nonzero(new(ones, training=True)) < 100
    start = tf_keras.Input((100,))
    with caplog.at_level(logging.WARNING):
        tfprune.to_keras3(tf_keras.Model(start, L.Dropout(0.5, name="d")(start, training=False)))
    assert "'d' is called with training=False" in caplog.text


@pytest.mark.parametrize("functional", [False, True])
def test_a_difference_is_refused_and_the_layer_named(functional: bool) -> None:
    inner = [keras.layers.Dense(3, name=f"d{i}") for i in range(3)]
    start = keras.Input((4,))
    old = keras.Sequential([start, *inner])
    if functional:
        old = keras.Model(start, inner[2](inner[1](inner[0](start))))
    one = bridge._Bridge("to_tf_keras", bridge._keras(), bridge._tf_keras())
    new = one.model(old)
    one.copy_weights()
    verify(one.comparison(old, new))
    new.get_layer("d1").kernel.assign_add(np.full((3, 3), 1e-3))
    with pytest.raises(ModelError, match=r"differ by .* starting at layer 'd1'"):
        verify(one.comparison(old, new))


def test_the_given_model_is_not_changed() -> None:
    old = small_convnet()
    before = [w.copy() for w in old.get_weights()]
    new = tfprune.to_keras3(old)
    for layer in new.layers:
        layer.set_weights([w * 0 for w in layer.get_weights()])
    for a, b in zip(before, old.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_converting_changes_neither_tf_keras_nor_the_environment() -> None:
    code = (
        "import os; before = dict(os.environ); import tfprune, keras\n"
        "model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])\n"
        "tfprune.to_keras3(tfprune.to_tf_keras(model))\n"
        "import tensorflow as tf\n"
        "assert 'TF_USE_LEGACY_KERAS' not in os.environ\n"
        "assert tf.keras.Model.__module__.startswith('keras.'), tf.keras.Model.__module__\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


class WithoutArguments(tf_keras.layers.Layer):
    """Called as a layer whose class was missing when its SavedModel was read."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return args[0]


def odd_models() -> dict[str, Any]:
    m = tf_keras.layers
    start = tf_keras.Input((4,))
    return {
        "no named argument": tf_keras.Model(start, WithoutArguments()(start)),
        "no layers": tf_keras.Sequential([m.InputLayer((4,))]),
        "no outputs": tf_keras.Model(start, []),
        "a class method": tf_keras.Model(
            start, tf.RaggedTensor.from_tensor(start).to_tensor()
        ),
    }  # fmt: skip


@pytest.mark.parametrize("kind", odd_models())
def test_odd_graphs_are_refused_in_one_line(kind: str) -> None:
    with pytest.raises(ModelError, match="^to_keras3: ") as error:
        tfprune.to_keras3(odd_models()[kind])
    assert "\n" not in str(error.value)


def test_a_model_is_converted_from_its_own_graph_although_a_layer_forgot_its_calls() -> None:
    start = tf_keras.Input((4,))
    gone = tf_keras.layers.Dense(2, name="gone")
    torn = tf_keras.Model(start, tf_keras.layers.Dense(2)(gone(start)))
    gone._inbound_nodes.clear()
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    np.testing.assert_allclose(tfprune.to_keras3(torn)(x), torn(x), atol=1e-5)
