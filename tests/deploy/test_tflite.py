"""From a Keras model to a file that agrees with it."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ConversionError, DataError, ModelError, OptionError
from tfprune.runtime.litert import Runner
from tfprune.runtime.schemes import SCHEMES

L = keras.layers


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic", "int8", "int16x8"])
def test_the_file_agrees_with_the_model_and_is_the_same_on_every_call(convnet, images, scheme):
    artifact = to_tflite(convnet, scheme=scheme, calibration=images)

    difference = Runner(artifact)(images) - convnet.predict(images, verbose=0)
    spread = convnet.predict(images, verbose=0).std()
    assert np.sqrt(np.mean(difference**2)) < SCHEMES[scheme].bound * spread
    assert to_tflite(convnet, scheme=scheme, calibration=images).bytes == artifact.bytes


def test_every_scheme_stores_the_types_that_it_promises(convnet, images, float_file, int8_file):
    half = to_tflite(convnet, scheme="float16").report
    assert half.raw_bytes < 0.7 * float_file.report.raw_bytes
    # 2,048 weights of the Dense layer and 72 of the convolution, in 4 bytes and in 1.
    assert float_file.report.raw_bytes - int8_file.report.raw_bytes > 0.8 * 3 * (2048 + 72)
    assert [spec.dtype for spec in int8_file.report.inputs] == ["int8"]
    assert [spec.dtype for spec in int8_file.report.outputs] == ["int8"]
    mixed = to_tflite(convnet, scheme="int8", io="float32", calibration=images).report
    assert [spec.dtype for spec in mixed.inputs + mixed.outputs] == ["float32", "float32"]
    assert {"QUANTIZE", "DEQUANTIZE"} <= set(mixed.ops)


def test_path_writes_the_file_and_its_report(convnet, tmp_path):
    artifact = to_tflite(convnet, tmp_path / "m.tflite")

    assert artifact.path == tmp_path / "m.tflite"
    assert artifact.path.read_bytes() == artifact.bytes
    report = json.loads((tmp_path / "m.json").read_text())
    assert report["raw_bytes"] == len(artifact.bytes)
    assert report["sha256"] == artifact.report.sha256
    assert report["versions"]["keras"] == keras.__version__


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"scheme": "int9"}, OptionError, "unknown scheme 'int9'. .*Did you mean int8"),
        ({"scheme": "int8"}, OptionError, "needs samples .* give calibration=x_train"),
        ({"scheme": "float16", "io": "int8"}, OptionError, "io: scheme 'float16' allows float32"),
        ({"batch": 0}, OptionError, "batch: expected a positive integer or None, got 0"),
        ({"bound": -1.0}, OptionError, "bound: expected a positive number"),
        ({"allow_float": ["SOFTMAXX"]}, OptionError, "unknown operation .*Did you mean SOFTMAX"),
        ({"allow_float": "SOFTMAX"}, OptionError, "expected a list of operation names"),
        ({"calibration": np.zeros((0, 8, 8, 1))}, DataError, "empty"),
        (
            {"calibration": np.zeros((5, 8, 8, 3))},
            DataError,
            r"expected a batch of shape \(None, 8, 8, 1\)",
        ),
    ],
)
def test_wrong_options_are_one_line_before_any_work(convnet, options, error, text):
    with pytest.raises(error, match=text) as caught:
        to_tflite(convnet, **options)
    assert "\n" not in str(caught.value)


def test_what_is_no_model_is_named():
    with pytest.raises(ModelError, match=r"expected a keras.Model or tf_keras.Model. Received str"):
        to_tflite("model.keras")
    with pytest.raises(ModelError, match="is not built"):
        to_tflite(keras.Sequential([L.Dense(2)]))


def test_a_time_limit_is_one_error(convnet):
    with pytest.raises(ConversionError, match=r"longer than its limit of 0\.001 s"):
        to_tflite(convnet, time_limit_s=0.001)


def test_the_path_is_checked_before_the_work(convnet, tmp_path):
    with pytest.raises(OptionError, match="is a folder"):
        to_tflite(convnet, tmp_path)
    with pytest.raises(OptionError, match=r"expected a name ending in \.tflite"):
        to_tflite(convnet, tmp_path / "m.json")


@pytest.mark.slow
def test_two_processes_give_the_same_bytes():
    script = (
        "import keras, numpy as np\n"
        "from tfprune import to_tflite\n"
        "keras.utils.set_random_seed(0)\n"
        "m = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(8, 3),"
        " keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dense(40)])\n"
        "x = np.random.default_rng(0).normal(size=(20, 8, 8, 1))\n"
        "print([to_tflite(m, scheme=s, calibration=x).report.sha256"
        " for s in ('float32', 'dynamic', 'int8', 'int4')])\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert len(runs[0].stdout) > 4 * 64
    assert runs[0].stdout == runs[1].stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": None}, "unknown scheme None"),
        ({"scheme": ["int8"]}, r"unknown scheme \['int8'\]"),
        ({"layers": "h"}, "layers: expected a dict"),
        ({"allow_float": 3}, "allow_float: expected a list"),
        ({"time_limit_s": -1}, "time_limit_s: expected a positive number"),
        ({"scheme": "auto", "time_limit_s": "a"}, "time_limit_s: expected a positive number"),
        ({"input_signature": "x"}, "input_signature: expected shapes and types.* got 'x'"),
        ({"input_signature": [(3,)]}, r"input_signature: expected .* got \[\(3,\)\]"),
    ],
    ids=str,
)
def test_an_option_that_is_none_is_one_line(convnet, options, message):
    with pytest.raises(OptionError, match=message):
        to_tflite(convnet, **options)


def test_the_class_of_a_model_is_no_model():
    with pytest.raises(
        ModelError, match="expected a keras.Model or tf_keras.Model. Received .*type"
    ):
        to_tflite(keras.Model)
