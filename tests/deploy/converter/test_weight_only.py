"""Weights in 4 and 8 bits, for all layers or some."""

import keras
import numpy as np
import pytest

from tfprune.deploy.tflite import to_tflite
from tfprune.errors import FilterError, OptionError
from tfprune.runtime.inspect import inspect
from tfprune.utils import extras

L = keras.layers


@pytest.fixture(scope="module")
def two_layers() -> keras.Model:
    """Two Dense layers of 64×64, the first with half of its weights at zero."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), L.Dense(64, name="first"), L.Dense(64, name="second")]
    )
    kernel = model.get_layer("first").kernel
    kernel.assign(kernel.numpy() * (np.arange(64 * 64).reshape(64, 64) % 2))
    return model


def _types(artifact) -> dict[str, str]:
    rows = inspect(artifact).tensors
    return {name: row.dtype for row in rows for name in ("first", "second") if name in row.name}


@pytest.mark.usefixtures("quantizer")
@pytest.mark.parametrize(
    ("scheme", "kind", "weights_bytes"),
    [("int4", "int4", 4096), ("weight_int4", "int4", 4096), ("weight_int8", "int8", 8192)],
)
def test_all_weights_in_few_bits(two_layers, scheme, kind, weights_bytes):
    artifact = to_tflite(two_layers, scheme=scheme)
    assert _types(artifact) == {"first": kind, "second": kind}
    assert 0 <= inspect(artifact).weights_bytes - weights_bytes < 600
    assert artifact.report.parity[0].correlation > 0.98
    assert ("DEQUANTIZE" in artifact.report.ops) == scheme.startswith("weight")
    assert to_tflite(two_layers, scheme=scheme).bytes == artifact.bytes


@pytest.mark.usefixtures("quantizer")
def test_zeros_stay_zeros_in_four_bits(two_layers):
    row = next(
        r for r in inspect(to_tflite(two_layers, scheme="int4")).tensors if "first" in r.name
    )
    assert row.zeros is not None
    assert row.elements == 4096
    assert row.zeros >= 2048


@pytest.mark.usefixtures("quantizer")
def test_layers_take_other_schemes(two_layers):
    mixed = to_tflite(two_layers, scheme="int4", layers={"second": "weight_int8"})
    assert _types(mixed) == {"first": "int4", "second": "int8"}
    kept = to_tflite(two_layers, scheme="weight_int8", layers={"first": "float32"})
    assert _types(kept) == {"first": "float32", "second": "int8"}
    assert any("1 constants of 4096 numbers stay float" in note for note in kept.report.notes)


@pytest.mark.usefixtures("quantizer")
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"scheme": "int4", "layers": {"third": "float32"}}, FilterError, "matches no operation"),
        ({"scheme": "int4", "layers": {"third": "int4"}}, FilterError, "such as .*/second/MatMul"),
        ({"scheme": "int4", "layers": {"(": "float32"}}, FilterError, "no regular expression"),
        ({"scheme": "int4", "layers": {"first": "int8"}}, OptionError, "'int8'. Known: float32"),
        ({"scheme": "dynamic", "layers": {"first": "int4"}}, OptionError, "for the whole model"),
    ],
)
def test_wrong_layers_are_one_line(two_layers, options, error, text):
    with pytest.raises(error, match=text) as caught:
        to_tflite(two_layers, **options)
    assert "\n" not in str(caught.value)


def test_without_the_package_one_line_says_how_to_get_it(two_layers, monkeypatch):
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None)
    for scheme in ("int4", "weight_int8"):
        with pytest.raises(OptionError, match=r"pip install 'tfprune\[quantizer\]'") as caught:
            to_tflite(two_layers, scheme=scheme)
        assert "\n" not in str(caught.value)
    with pytest.raises(FilterError, match="no regular expression"):
        to_tflite(two_layers, scheme="int4", layers={"(": "float32"})


@pytest.mark.usefixtures("quantizer")
def test_a_pattern_finds_the_layer_of_that_name():
    model = keras.Sequential(
        [keras.Input((64,)), L.Dense(64, name="dense"), L.Dense(64, name="dense_1")]
    )
    mixed = to_tflite(model, scheme="int4", layers={"dense_1/": "float32"}, bound=2.0)
    kept = {t.name.split("/")[1]: t.dtype for t in inspect(mixed).tensors if t.elements == 64 * 64}
    assert kept == {"dense": "int4", "dense_1": "float32"}


def test_types_that_are_guessed_are_noted():
    class Words(keras.Model):
        def __init__(self):
            super().__init__()
            self.table = L.Embedding(9, 4)

        def call(self, x):
            return self.table(x)

    model = Words()
    model(np.zeros((1, 5), "int32"))
    assert "give input_signature= for others" in to_tflite(model).report.notes[0]
    assert to_tflite(model, calibration=np.zeros((4, 5), "int32")).report.notes == ()
