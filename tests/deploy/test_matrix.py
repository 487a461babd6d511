"""Architectures × generations of Keras × schemes: right, or refused in one line.

`pytest -m slow tests/deploy/test_matrix.py` runs all of it.
"""

import keras
import numpy as np
import pytest
import tf_keras

from tfprune.deploy.runtime import Runner
from tfprune.deploy.schemes import SCHEMES
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ConversionError

pytestmark = pytest.mark.exhaustive

_GENERATIONS = {"keras": keras, "tf_keras": tf_keras}


def _inverted_residual(k):
    L = k.layers
    inputs = k.Input((16, 16, 3))
    h = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(16, 3, strides=2, padding="same")(inputs)))
    x = L.ReLU(6.0)(L.BatchNormalization()(L.Conv2D(64, 1, use_bias=False)(h)))
    x = L.ReLU(6.0)(L.BatchNormalization()(L.DepthwiseConv2D(3, padding="same")(x)))
    h = L.Add()([h, L.BatchNormalization()(L.Conv2D(16, 1, use_bias=False)(x))])
    return k.Model(inputs, L.Dense(64)(L.GlobalAveragePooling2D()(h)))


def _squeeze_excite(k):
    L = k.layers
    inputs = k.Input((12, 12, 3))
    h = L.Conv2D(32, 3, activation="swish")(L.Rescaling(1 / 2.0)(inputs))
    s = L.Reshape((1, 1, 32))(L.GlobalAveragePooling2D()(h))
    s = L.Conv2D(32, 1, activation="sigmoid")(L.Conv2D(8, 1, activation="swish")(s))
    return k.Model(inputs, L.Dense(64)(L.GlobalAveragePooling2D()(L.Multiply()([h, s]))))


def _residual(k):
    L = k.layers
    inputs = k.Input((12, 12, 3))
    h = L.MaxPooling2D()(L.ReLU()(L.BatchNormalization()(L.Conv2D(32, 3)(inputs))))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(32, 3, padding="same")(h)))
    h = L.ReLU()(L.Add()([h, L.BatchNormalization()(L.Conv2D(32, 3, padding="same")(x))]))
    return k.Model(inputs, L.Dense(8, activation="softmax")(L.GlobalAveragePooling2D()(h)))


def _block(k, h):
    L = k.layers
    h = L.LayerNormalization()(h + L.MultiHeadAttention(2, 16)(h, h))
    return L.LayerNormalization()(h + L.Dense(32)(L.Dense(64, activation="gelu")(h)))


def _attention(k):
    inputs = k.Input((8, 12))
    h = _block(k, k.layers.Dense(32)(inputs))
    return k.Model(inputs, k.layers.Dense(6)(k.layers.GlobalAveragePooling1D()(h)))


def _tokens(k):
    inputs = k.Input((8,), dtype="int32")
    h = _block(k, k.layers.Embedding(50, 32)(inputs))
    return k.Model(inputs, k.layers.Dense(6)(k.layers.GlobalAveragePooling1D()(h)))


def _recurrent(name):
    def build(k):
        inputs = k.Input((6, 12))
        layer = getattr(k.layers, name)(24)
        return k.Model(inputs, k.layers.Dense(4)(layer(inputs)))

    return build


def _bidirectional(k):
    L = k.layers
    inputs = k.Input((5, 12))
    return k.Model(inputs, L.Dense(4)(L.Bidirectional(L.LSTM(16))(inputs)))


def _separable(k):
    L = k.layers
    inputs = k.Input((10, 10, 8))
    return k.Model(inputs, L.Dense(4)(L.Flatten()(L.SeparableConv2D(32, 3, strides=2)(inputs))))


def _transposed(k):
    L = k.layers
    inputs = k.Input((6, 6, 8))
    return k.Model(inputs, L.Conv2DTranspose(16, 3, strides=2, padding="same")(inputs))


def _grouped(k):
    L = k.layers
    inputs = k.Input((8, 8, 16))
    h = L.Conv2D(32, 3, groups=4, padding="same", activation="relu")(inputs)
    return k.Model(inputs, L.Dense(64)(L.GlobalAveragePooling2D()(h)))


def _two_inputs(k):
    L = k.layers
    image, meta = k.Input((8, 8, 3), name="image"), k.Input((5,), name="meta")
    h = L.GlobalAveragePooling2D()(L.Conv2D(48, 3)(image))
    h = L.Concatenate()([h, L.Dense(8)(meta)])
    heads = {"kind": L.Dense(40, name="kind")(h), "size": L.Dense(1, name="size")(h)}
    return k.Model({"meta": meta, "image": image}, heads)


_ARCHITECTURES = {
    "inverted residual": _inverted_residual,
    "squeeze-excite": _squeeze_excite,
    "residual": _residual,
    "attention": _attention,
    "tokens": _tokens,
    "LSTM": _recurrent("LSTM"),
    "GRU": _recurrent("GRU"),
    "bidirectional": _bidirectional,
    "separable": _separable,
    "transposed": _transposed,
    "grouped": _grouped,
    "two inputs": _two_inputs,
}

# What the runtime cannot do, with the words that say so.
_REFUSED = {
    ("keras", "attention", "int16x8"): "does not take numbers of this type",
    # The runtime unpacks sparse 16-bit kernels of a transposed convolution wrongly.
    ("keras", "transposed", "sparse_float16"): "disagrees with the model: .* differs by inf",
    ("tf_keras", "transposed", "sparse_float16"): "disagrees with the model: .* differs by inf",
    ("keras", "tokens", "int16x8"): "saw no range for a tensor",
    ("tf_keras", "attention", "int16x8"): "the kernels for this model crash",
    ("tf_keras", "tokens", "int16x8"): "the kernels for this model crash",
}


def _prepare(model) -> None:
    """Prune all kernels to 80 %, and give the BatchNorms statistics that are not trivial."""
    rng = np.random.default_rng(0)
    values = []
    for weight in model.weights:
        value = np.array(weight.numpy())
        name = weight.path if hasattr(weight, "path") else weight.name
        if "moving_variance" in name:
            value = rng.uniform(0.5, 1.5, value.shape)
        elif "moving_mean" in name:
            value = rng.normal(0, 0.3, value.shape)
        elif value.ndim > 1:
            value *= rng.random(value.shape) > 0.8
        values.append(value)
    model.set_weights(values)


def _samples(model, name: str):
    rng = np.random.default_rng(1)
    if name == "tokens":
        return rng.integers(0, 50, (24, 8)).astype("int32")
    made = {
        tensor.name: rng.normal(size=(24, *tensor.shape[1:])).astype("float32")
        for tensor in model.inputs
    }
    return made if name == "two inputs" else next(iter(made.values()))


@pytest.mark.parametrize("scheme", list(SCHEMES))
@pytest.mark.parametrize("name", list(_ARCHITECTURES))
@pytest.mark.parametrize("generation", list(_GENERATIONS))
def test_right_or_refused(generation, name, scheme):
    k = _GENERATIONS[generation]
    k.utils.set_random_seed(0)
    model = _ARCHITECTURES[name](k)
    _prepare(model)
    x = _samples(model, name)
    refusal = _REFUSED.get((generation, name, scheme))
    if refusal:
        with pytest.raises(ConversionError, match=refusal) as caught:
            to_tflite(model, scheme=scheme, calibration=x)
        assert "\n" not in str(caught.value)
        return
    artefact = to_tflite(model, scheme=scheme, calibration=x)
    assert artefact.report.parity
    for entry in artefact.report.parity:
        assert entry.correlation > (0.9 if "int4" in scheme else 0.98), entry
    got = Runner(artefact).run_named(x)
    assert {len(value) for value in got.values()} == {24}
