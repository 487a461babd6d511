"""Layers of tfprune in files, found by Keras's own loader after nothing but `import tfprune`."""

import importlib
import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfprune
from tfprune.keras_support.registration import LAYERS, register_layers

L = keras.layers

LOAD = """
import json, sys
import tfprune
assert not {"keras", "tensorflow"} & sys.modules.keys()
import importlib.util
importlib.util.find_spec("keras")  # who only asks whether it is there is no importer
import keras
import numpy as np
assert not any(name.startswith("tfprune.deploy") for name in sys.modules)
x = np.ones((2, 4, 8), "float32")
print(json.dumps([np.array(keras.models.load_model(path)(x)).tolist() for path in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def models() -> list[keras.Model]:
    """A quantization-aware and a gated model with attention."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 8))
    h = L.Dense(8, activation="gelu", name="hidden")(inputs)
    h = L.MultiHeadAttention(2, 4, name="attention")(h, h)
    model = keras.Model(inputs, L.Dense(3, name="last")(L.LayerNormalization()(h)))
    aware = tfprune.quantize_aware(model)
    aware(np.random.default_rng(0).normal(size=(9, 4, 8)), training=True)
    h = tfprune.layers.ChannelGate("l1")(L.Dense(8)(inputs))
    h = tfprune.layers.HeadGate()(L.Reshape((4, 2, 4))(h))
    return [aware, keras.Model(inputs, L.Dense(3)(h))]


def test_keras_loads_our_layers_in_a_fresh_process(models, tmp_path):
    x = np.ones((2, 4, 8), "float32")
    paths, expected = [], []
    for i, model in enumerate(models):
        for ending in ("keras", "h5"):
            paths.append(str(tmp_path / f"{i}.{ending}"))
            expected.append(np.array(model(x)))
            keras.saving.save_model(model, paths[-1])
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *paths], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for got, wanted in zip(json.loads(done.stdout.splitlines()[-1]), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


def test_layers_are_found_where_keras_was_imported_first(models, monkeypatch):
    text = models[0].to_json()
    known = keras.saving.get_custom_objects()
    for name in [name for name in known if name.startswith("tfprune>")]:
        monkeypatch.delitem(known, name)
    with pytest.raises(TypeError, match="Could not locate class"):
        keras.models.model_from_json(text)
    register_layers()
    again = keras.models.model_from_json(text)
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in models[0].layers]


def test_registered_layers_are_not_replaced():
    importlib.import_module("tfprune.deploy.qat.layers")
    register_layers()
    found = keras.saving.get_registered_object("tfprune>QuantisedDense")
    assert isinstance(found, type)


def test_the_table_has_every_layer_that_can_be_in_a_file():
    for module in LAYERS.values():
        importlib.import_module(module)
    known = keras.saving.get_custom_objects()
    registered = {
        name.removeprefix("tfprune>"): kind.__module__
        for name, kind in known.items()
        if name.startswith("tfprune>")
    }
    assert registered == LAYERS
