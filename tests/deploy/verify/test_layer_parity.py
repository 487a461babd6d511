"""The first layer where a file differs from its model."""

import keras
import numpy as np
import pytest

from tfprune.deploy.tflite import to_tflite
from tfprune.deploy.verify.layer_parity import compare_layers
from tfprune.errors import ConversionError, ModelError

L = keras.layers


@pytest.fixture(scope="module")
def fragile() -> keras.Model:
    """One channel of `wide` is 10,000 times the other, and only the other counts in `last`."""
    model = keras.Sequential(
        [
            keras.Input((2,)),
            L.Dense(4, activation="relu", name="first"),
            L.Dense(2, use_bias=False, name="wide"),
            L.Dense(1, use_bias=False, name="last"),
        ]
    )
    rng = np.random.default_rng(0)
    wide = rng.uniform(0.5, 1, (4, 2)) * [1e4, 1]
    model.get_layer("wide").set_weights([wide])
    model.get_layer("last").set_weights([np.array([[0.0], [1.0]])])
    return model


_X = np.random.default_rng(1).normal(size=(40, 2)).astype("float32")


def test_a_right_file_agrees_in_every_layer(convnet, float_file, int8_file, images):
    table = compare_layers(convnet, float_file, images)
    assert {"norm", "flatten", "logits"} & {row.layer for row in table.rows} >= {"logits"}
    assert table.rows[-1].layer == "logits"
    assert table.begins(1e-3) is None or "conv" in table.begins(1e-3).layer
    quantized = compare_layers(convnet, int8_file, images)
    assert quantized.rows[-1].correlation > 0.99
    assert "logits" in quantized.to_text()


def test_the_first_layer_that_differs_is_found_and_named(fragile):
    wrong = to_tflite(fragile, scheme="int8", calibration=_X, bound=3.0)
    table = compare_layers(fragile, wrong, _X)
    errors = {row.layer: row.error for row in table.rows}
    assert errors["first"] < 0.05
    assert errors["wide"] < 0.05
    assert errors["last"] > 0.5
    begins = table.begins(0.3)
    assert begins is not None
    assert begins.layer == "last"
    with pytest.raises(ConversionError, match="the first such layer is 'last', with an error of"):
        to_tflite(fragile, scheme="int8", calibration=_X)


def test_a_layer_folded_into_the_next_is_not_matched_to_the_tensor_of_another():
    """In a correct file, no convolution before its BatchNormalization may be reported."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Conv2D(6, 3, use_bias=False, name="conv"),
            L.BatchNormalization(name="norm"),
            L.ReLU(6.0, name="relu"),
            L.GlobalAveragePooling2D(),
            L.Dense(2, name="out"),
        ]
    )
    gamma, beta, mean, variance = (rng.uniform(low, 3, 6) for low in (0.5, -3, -3, 0.05))
    model.get_layer("norm").set_weights([gamma, beta, mean, variance])
    x = rng.normal(size=(16, 8, 8, 3)).astype("float32")
    for options in ({}, {"scheme": "int8", "calibration": x}):
        table = compare_layers(model, to_tflite(model, **options), x)
        assert table.unmatched[:2] == ("conv", "norm")
        assert table.rows[0].layer == "relu"
        assert table.begins(0.05) is None


@pytest.fixture(scope="module")
def residual() -> keras.Model:
    """Two residual blocks whose BatchNormalization stands before a ReLU, so that none is folded."""
    keras.utils.set_random_seed(0)
    image = keras.Input((16, 16, 3))
    z = L.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(image)
    for i in (1, 2):
        branch = L.ReLU(name=f"relu_{i}")(L.BatchNormalization(name=f"norm_{i}")(z))
        branch = L.Conv2D(16, 3, padding="same", use_bias=False, name=f"conv_{i}")(branch)
        z = L.Add(name=f"sum_{i}")([z, branch])
    model = keras.Model(image, L.GlobalAveragePooling2D(name="out")(z))
    rng = np.random.default_rng(0)
    for i in (1, 2):
        gamma, beta, mean = (rng.normal(mean, 0.5, 16) for mean in (1, 0, 0))
        statistics = [gamma, beta, mean, rng.uniform(0.3, 2, 16)]
        model.get_layer(f"norm_{i}").set_weights(statistics)
    return model


def test_a_tensor_that_is_not_the_output_of_a_layer_is_not_matched(residual):
    """The nearest tensor to a BatchNormalization whose beta the converter took further was wrong.

    It lay by itself in the middle of a right file, off by 0.6.
    """
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
    for options, error in (({}, 1e-5), ({"scheme": "int8", "calibration": x}, 0.05)):
        table = compare_layers(residual, to_tflite(residual, **options), x)
        assert table.begins(error) is None
        assert table.unmatched == ("norm_1", "norm_2")
        assert [row.layer for row in table.rows][:3] == ["stem", "relu_1", "conv_1"]


def test_a_file_of_other_weights_disagrees_from_their_layer_on(residual):
    other = keras.models.clone_model(residual)
    other.set_weights(residual.get_weights())
    other.get_layer("conv_2").set_weights([-other.get_layer("conv_2").get_weights()[0]])
    x = np.random.default_rng(0).normal(size=(8, 16, 16, 3)).astype("float32")
    for options, error in (({}, 1e-5), ({"scheme": "int8", "calibration": x}, 0.05)):
        table = compare_layers(residual, to_tflite(other, **options), x)
        assert table.begins(error).layer == "conv_2"
        wrong = [row.layer for row in table.rows if row.error > error]
        assert wrong == ["conv_2", "sum_2", "out"]


def test_a_fixed_batch_needs_no_more_samples(fragile):
    table = compare_layers(fragile, to_tflite(fragile, batch=6), _X[:2])
    assert [row.layer for row in table.rows] == ["first", "wide", "last"]
    assert table.begins(1e-5) is None


def test_dicts_of_inputs_are_matched_by_name():
    a, b = keras.Input((3,), name="b_first"), keras.Input((5,), name="a_second")
    total = L.Concatenate(name="joined")([L.Dense(4, name="left")(a), L.Dense(6, name="right")(b)])
    model = keras.Model({"b_first": a, "a_second": b}, L.Dense(2, name="out")(total))
    rng = np.random.default_rng(0)
    x = {"a_second": rng.normal(size=(4, 5)), "b_first": rng.normal(size=(4, 3))}
    table = compare_layers(model, to_tflite(model), x)
    assert [row.layer for row in table.rows] == ["left", "right", "joined", "out"]
    assert table.begins(1e-4) is None


def test_a_subclassed_model_has_no_table():
    with pytest.raises(ModelError, match="expected a functional or sequential"):
        compare_layers("model", b"", _X)


def test_a_loop_has_a_row_though_its_inner_tensors_are_not_kept():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 4))
    x = keras.layers.Dense(6, activation="relu", name="before")(inputs)
    x = keras.layers.LSTM(6, name="loop")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="after")(x))
    samples = np.random.default_rng(0).normal(size=(4, 5, 4)).astype("float32")
    table = compare_layers(model, to_tflite(model), samples)
    assert {row.layer for row in table.rows} == {"before", "loop", "after"}
    assert all(row.error < 1e-5 for row in table.rows)
