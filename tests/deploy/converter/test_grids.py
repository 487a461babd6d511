from typing import Any

import keras
import numpy as np
import pytest

import tfprune
from tfprune.deploy.converter.grids import keep_grids, multiples
from tfprune.runtime import flatbuffer
from tfprune.runtime.litert import Runner

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def model() -> Any:
    """Return a model with zeros and weights of 3 bits, and a BatchNormalization to fold."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    h = L.Conv2D(16, 3, use_bias=False)(x)
    h = L.ReLU()(L.BatchNormalization(name="norm")(h))
    h = L.Dense(64, activation="relu")(L.Flatten()(h))
    model = keras.Model(x, L.Dense(5)(h))
    norm = model.get_layer("norm")
    for variable, low in zip(norm.weights, (-2.0, -1.0, -1.0, 0.5), strict=True):
        variable.assign(RNG.uniform(low, 2.0, variable.shape))
    return tfprune.strip_pruning(tfprune.prune_oneshot(model, X, 0.5, bits=3))


def stored_weights(data: bytes) -> list[np.ndarray]:
    """Return the real weights of a file as (outputs, inputs), in the order of its operations."""
    contents = flatbuffer.parse(data)
    graph, found = contents.subgraphs[0], []
    for op in graph.ops:
        if op.name not in ("CONV_2D", "FULLY_CONNECTED"):
            continue
        tensor = graph.tensors[op.inputs[1]]
        raw = np.frombuffer(contents.raw(tensor), np.uint8)
        if tensor.dtype == "int4":
            raw = np.stack([raw & 15, raw >> 4], axis=1).ravel()[: tensor.elements]
            integers = np.where(raw > 7, raw.astype(int) - 16, raw)
        else:
            integers = raw.view(np.int8).astype(int)
        rows = integers.reshape(tensor.shape[0], -1)
        found.append(rows * np.array(tensor.scales, np.float64)[:, None])
    return found


def folded(model: Any) -> list[np.ndarray]:
    conv, norm, *dense = [layer for layer in model.layers if layer.weights]
    gamma, _, _, variance = norm.get_weights()
    kernel = conv.kernel.numpy() * gamma / np.sqrt(variance + norm.epsilon)
    rows = [kernel.transpose(3, 0, 1, 2).reshape(16, -1)]
    return rows + [layer.kernel.numpy().T for layer in dense]


@pytest.mark.parametrize("scheme", ["int4", "weight_int4", "int8"])
def test_the_file_has_exactly_the_weights_of_the_model(
    model: Any, scheme: str, request: pytest.FixtureRequest
) -> None:
    if scheme != "int8":
        request.getfixturevalue("quantizer")
    artifact = tfprune.to_tflite(model, scheme=scheme, calibration=X, io="float32")
    assert "kernels stored exactly, as multiples of few steps: 3" in artifact.report.notes
    if scheme != "weight_int4":
        pairs = zip(stored_weights(artifact.bytes), folded(model), strict=True)
        for stored, wanted in pairs:
            assert np.allclose(stored, wanted, rtol=1e-5, atol=0)
    close = 1e-4 if scheme == "weight_int4" else 0.05
    wanted = model.predict(X, verbose=0)
    assert np.abs(Runner(artifact.bytes)(X) - wanted).max() < close * np.abs(wanted).max()


def test_other_weights_are_not_touched() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Flatten(), L.Dense(8)])
    artifact = tfprune.to_tflite(model, scheme="int8", calibration=X)
    assert keep_grids(artifact.bytes, None) == (artifact.bytes, 0)


def test_eight_bits_tell_every_grid_of_few_steps() -> None:
    for count in range(1, 8):
        whole = np.append(
            RNG.integers(-count, count + 1, (20, 200)), np.full((20, 1), count), axis=1
        )
        whole[:, 0] = count - 1
        stored = np.rint(whole * 127 / count) * RNG.uniform(0.1, 3, (20, 1))
        assert (multiples(stored, 0.505 / 127) == count).all()
    assert not multiples(RNG.standard_normal((20, 200)), 0.505 / 127).any()


def test_a_channel_of_zeros_keeps_its_bias() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 3)), L.Flatten(), L.Dense(6)])
    kernel = np.sign(RNG.standard_normal((192, 6))) / 8
    kernel[:, 2] = 0
    model.layers[-1].set_weights([kernel, np.linspace(-9, 9, 6)])
    artifact = tfprune.to_tflite(model, scheme="int8", calibration=X, io="float32")
    assert "kernels stored exactly, as multiples of few steps: 1" in artifact.report.notes
    found = Runner(artifact.bytes)(X)[:, 2]
    assert np.allclose(found, np.linspace(-9, 9, 6)[2], atol=0.2)
