"""Files that version 0.1.0 wrote, before its modules were moved, still load and mean the same."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tfprune
from tfprune.structure.select.plan import Plan

SAVED = Path(__file__).parents[1] / "golden" / "saved"
# Keras 3.15 wrote the models, with an argument of Dense that older releases refuse to read.
as_new_as_the_files = pytest.mark.skipif(
    "quantization_config" not in inspect.signature(keras.layers.Dense).parameters,
    reason="this Keras reads no layers of the Keras that wrote the files",
)
X = np.linspace(-1, 1, 64, dtype="float32").reshape(2, 4, 8)


@pytest.fixture(scope="module")
def answers() -> dict[str, list]:
    """The outputs of each model for X when it was saved."""
    return json.loads((SAVED / "answers.json").read_text())


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """The float model that all of these were made of, with other weights."""
    inputs = keras.Input((4, 8), name="x")
    h = keras.layers.Dense(8, activation="gelu", name="hidden")(inputs)
    h = keras.layers.MultiHeadAttention(2, 4, name="attention")(h, h)
    h = keras.layers.LayerNormalization(name="norm")(h)
    return keras.Model(inputs, keras.layers.Dense(3, name="last")(h))


@as_new_as_the_files
@pytest.mark.parametrize("name", ["gated", "quantize_aware"])
def test_models_with_our_layers_load(name: str, answers: dict[str, list]) -> None:
    loaded = tfprune.load_model(SAVED / f"{name}.keras")
    np.testing.assert_allclose(loaded(X), answers[name], rtol=1e-5, atol=1e-6)


@as_new_as_the_files
def test_keras_alone_loads_them_in_a_fresh_process(answers: dict[str, list]) -> None:
    code = (
        "import json, sys, tfprune, keras, numpy as np\n"
        "x = np.linspace(-1, 1, 64, dtype='float32').reshape(2, 4, 8)\n"
        "load = keras.models.load_model\n"
        "print(json.dumps([np.array(load(path)(x)).tolist() for path in sys.argv[1:]]))"
    )
    paths = [str(SAVED / f"{name}.keras") for name in answers]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for found, expected in zip(
        json.loads(done.stdout.splitlines()[-1]), answers.values(), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_masks_load(model: keras.Model) -> None:
    pruned = tfprune.load_masks(keras.models.clone_model(model), SAVED / "masks.npz")
    assert tfprune.sparsity_of(pruned).sparsity > 0
    hidden = np.array(pruned.get_layer("hidden").kernel)
    assert np.count_nonzero(hidden == 0) == hidden.size // 2


def test_a_plan_loads_and_applies(model: keras.Model) -> None:
    small, report = tfprune.shrink(model, Plan.load(SAVED / "plan.json"))
    assert small.get_layer("hidden").units == 5
    assert report.error is not None
    assert report.error < 1e-4
