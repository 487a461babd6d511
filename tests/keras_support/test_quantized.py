"""Every call that reads weights, on what Keras's own `quantize` has left."""

import functools
import warnings

import keras
import numpy as np
import pytest

import tfprune
from tfprune.errors import ModelError
from tfprune.keras_support.quantized import refuse_quantized

L = keras.layers
X = np.zeros((8, 8), "float32")


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
    "shrink": lambda model: tfprune.shrink(model, "zeros"),
    "to_onnx": tfprune.to_onnx,
    "to_tf_keras": tfprune.to_tf_keras,
    "to_tflite": tfprune.to_tflite,
    "to_tflite, auto": lambda model: tfprune.to_tflite(model, scheme="auto", calibration=X),
    "units": tfprune.units,
}


@pytest.mark.parametrize("mode", ["int8", "float8", "int4"])
@pytest.mark.parametrize("name", CALLS)
def test_a_quantized_model_is_refused_in_one_line_with_the_way_out(name, mode):
    with pytest.raises(ModelError) as caught:
        CALLS[name](quantized(mode))
    assert str(caught.value) == (
        f"layer 'hidden' (keras.Dense) was quantized to {mode} by Keras, and its weights are not "
        "those of a float model: pass the model from before quantize(), and quantize the file: "
        "to_tflite(model, scheme='int8')"
    )


def test_a_trained_rounding_that_keras_quantized_again_is_refused():
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
