"""The generation of models, what Keras has quantized, and what a copy of a model takes along."""

import functools
import warnings

import keras
import numpy as np
import pytest
import tf_keras
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.errors import ModelError
from tfprune.keras_support.internals import layers_below
from tfprune.keras_support.models import (
    carry_compile,
    compile_options,
    config_of,
    from_config,
    is_tf_keras,
    is_tfmot,
    refuse_quantized,
    uncompiled,
)
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


L = keras.layers
X = np.random.default_rng(0).normal(2, 3, (64, 8)).astype("float32")


@functools.cache
def quantized(mode: str) -> keras.Model:
    try:
        keras.dtype_policies.get(f"{mode}_from_float32")
    except ValueError:
        pytest.skip(f"Keras {keras.__version__} does not quantize to {mode}")
    inputs = keras.Input((8,))
    inner = keras.Sequential([keras.Input((8,)), L.Dense(4, name="deep")])
    h = L.BatchNormalization()(L.Dense(8, activation="relu", name="hidden")(inputs))
    model = keras.Model(inputs, L.Dense(3, name="logits")(inner(h)), name="net")
    _quantize(model, mode)
    return model


def _quantize(model: keras.Model, mode: str) -> None:
    with warnings.catch_warnings():
        # Keras names each layer that it leaves as it is.
        warnings.simplefilter("ignore", UserWarning)
        model.quantize(mode)


CALLS = {
    "add_gates": tfprune.add_gates,
    "compare_layers": lambda model: tfprune.compare_layers(model, "missing.tflite", X),
    "make_sparse_ready": tfprune.make_sparse_ready,
    "prune": lambda model: tfprune.prune(model, 0.5),
    "prune_low_magnitude": tfprune.prune_low_magnitude,
    "prune_oneshot": lambda model: tfprune.prune_oneshot(model, X, sparsity=0.5),
    "quantize_aware": tfprune.quantize_aware,
    "recalibrate": lambda model: tfprune.recalibrate(model, X),
    "round_weights": lambda model: tfprune.round_weights(model, X),
    "shrink": lambda model: tfprune.shrink(model, "zeros"),
    "to_onnx": tfprune.to_onnx,
    "to_tf_keras": tfprune.to_tf_keras,
    "to_tflite": tfprune.to_tflite,
    "to_tflite, auto": lambda model: tfprune.to_tflite(model, scheme="auto", calibration=X),
    "units": tfprune.units,
}


@pytest.mark.parametrize("mode", ["int8", "float8", "int4"])
@pytest.mark.parametrize("name", CALLS)
def test_a_quantized_model_is_refused_in_one_line_with_the_fix(name, mode):
    with pytest.raises(ModelError) as caught:
        CALLS[name](quantized(mode))
    assert str(caught.value) == (
        f"layer 'hidden' (keras.Dense) was quantized to {mode} by Keras, and its weights are not "
        "those of a float model: pass the model from before quantize(), and quantize the file: "
        "to_tflite(model, scheme='int8')"
    )


def test_a_quantization_aware_model_that_keras_quantized_again_is_refused():
    inputs = keras.Input((8,))
    model = keras.Model(inputs, L.Dense(2)(L.Dense(4, name="skipped")(inputs)))
    aware = tfprune.quantize_aware(model, skip="skipped")
    _quantize(aware, "int8")
    for call in (tfprune.strip_quantization, tfprune.to_tflite, tfprune.to_onnx):
        with pytest.raises(ModelError, match="layer 'skipped' .* quantized to int8 by Keras"):
            call(aware)


def test_float_models_layers_and_lists_of_them_pass():
    model = keras.Sequential([keras.Input((8,)), L.Dense(4, dtype="mixed_bfloat16")])
    refuse_quantized(model, *model.layers)


def my_loss(labels, outputs):
    return ops.mean((labels - outputs) ** 2)


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.5 ** ops.cast(step, "float32")

    def get_config(self):
        return {}


class Error(keras.metrics.MeanSquaredError):
    pass


def net(*before) -> keras.Model:
    x = inputs = keras.Input((8,))
    for layer in before:
        x = layer(x)
    return keras.Model(inputs, kl.Dense(2)(kl.Dense(16, activation="relu", name="h")(x)))


COPIES = {
    "shrink": lambda model: tfprune.shrink(model, {"channels": 0.5})[0],
    "shrink unproven": lambda model: tfprune.shrink(model, {"channels": 0.5}, verify=False)[0],
    "add_gates": lambda model: tfprune.add_gates(model, penalty=0.1),
    "quantize_aware": tfprune.quantize_aware,
    "make_sparse_ready": lambda model: tfprune.make_sparse_ready(model)[0],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COPIES)
def test_custom_losses_metrics_and_rates_are_copied(name: str) -> None:
    """They are not registered, so they cannot be copied by name."""
    model = net()
    error = Error("mine")
    model.compile(keras.optimizers.Adam(Halving()), my_loss, metrics=[error, "mae"])
    copy = COPIES[name](model)
    assert copy.loss is my_loss
    assert isinstance(copy.optimizer._learning_rate, Halving)
    assert copy.optimizer is not model.optimizer
    copy.fit(X, np.zeros((64, 2)), batch_size=32, verbose=0)
    assert copy.optimizer.iterations == 2
    assert model.optimizer.iterations == 0
    assert float(error.result()) == 0
    assert model.compiled


def test_a_metric_that_cannot_be_rebuilt_is_named() -> None:
    class Stubborn(keras.metrics.Metric):
        def __init__(self, factor):
            super().__init__()

        def update_state(self, *args, **kwargs):
            """Count nothing."""

        def result(self):
            return 0.0

    model = net()
    model.compile("adam", "mse", metrics=[Stubborn(2)])
    with pytest.raises(ModelError, match="Stubborn, which the model is compiled with, cannot be"):
        carry_compile(model, net())
    with pytest.raises(ModelError, match="Stubborn"):
        tfprune.shrink(model, {"channels": 0.5})


def test_the_copy_of_a_model_that_is_not_compiled_is_not_compiled() -> None:
    model, twin = net(), net()
    assert compile_options(model) == {}
    carry_compile(model, twin)
    assert not twin.compiled
    model.compile("adam", "mse")
    with uncompiled(model):
        assert compile_options(model) == {}
    assert compile_options(model)["loss"] == "mse"


@pytest.mark.parametrize("name", ["shrink", "shrink unproven", "add_gates", "quantize_aware"])
def test_an_adapted_normalization_still_normalizes(name: str) -> None:
    """Its constants are computed from its weights, and a new layer does not have them."""
    norm = kl.Normalization()
    norm.adapt(X)
    model = net(norm)
    options = {"add_gates": {"kind": "hard"}}.get(name, {})
    copy = tfprune.add_gates(model, **options) if options else COPIES[name](model)
    (old,), (new,) = (
        [layer for layer in layers_below(each) if isinstance(layer, kl.Normalization)]
        for each in (model, copy)
    )
    np.testing.assert_allclose(new(X), old(X), rtol=1e-6)
    assert abs(float(ops.mean(new(X)))) < 1e-4


def test_a_quantized_file_of_a_model_that_normalizes_agrees_with_it() -> None:
    norm = kl.Normalization()
    norm.adapt(X)
    model = net(norm)
    aware = tfprune.quantize_aware(model)
    spread = float(np.std(model.predict(X, verbose=0)))
    aware.compile(keras.optimizers.Adam(1e-5), "mse")
    aware.fit(X, model.predict(X, verbose=0), epochs=2, verbose=0)
    assert np.abs(aware.predict(X, verbose=0) - model.predict(X, verbose=0)).max() < 0.2 * spread
    plain = tfprune.strip_quantization(aware)
    assert np.abs(plain.predict(X, verbose=0) - model.predict(X, verbose=0)).max() < 0.2 * spread


def test_a_learned_vocabulary_is_copied() -> None:
    import tensorflow as tf

    words = kl.StringLookup()
    words.adapt(["a", "b", "c"])
    inputs = keras.Input((1,), dtype="string")
    x = kl.Flatten()(kl.Embedding(5, 16)(words(inputs)))
    model = keras.Model(inputs, kl.Dense(2)(kl.Dense(16, name="h")(x)))
    text = tf.constant([["a"], ["c"], ["unheard"]])
    copy = tfprune.add_gates(model, kind="hard")
    np.testing.assert_allclose(copy(text), model(text), rtol=1e-6)
    small, report = tfprune.shrink(model, {"channels": 0.5})
    assert report.error <= 1e-5
    assert small.get_layer("h").units == 8
    assert small(text).shape == (3, 2)


class Penalty(keras.regularizers.Regularizer):
    """Has no config, as in a script that never saves."""

    def __call__(self, x):
        return keras.ops.sum(x)


def test_a_layer_is_made_again_with_a_regularizer_that_has_no_config():
    layer = keras.layers.Dense(3, kernel_regularizer=Penalty())
    made = from_config(layer, config_of(layer))
    assert made.kernel_regularizer is layer.kernel_regularizer
    assert isinstance(layer.kernel_regularizer, Penalty)
