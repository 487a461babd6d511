"""Architectures × generations of Keras × schemes: the outcome of each conversion."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np
import tf_keras
from sklearn.datasets import load_digits

from tfprune.data.model_comparison import scale_of
from tfprune.deploy.tflite import to_tflite
from tfprune.deploy.verify.reference import model_outputs
from tfprune.errors import ConversionError
from tfprune.graph.model_signature import interface
from tfprune.runtime.litert import Runner

GENERATIONS = {"keras": keras, "tf_keras": tf_keras}


@dataclass(frozen=True)
class Outcome:
    """The outcome of one model in one scheme.

    Attributes:
        refusal: The one line that says why there is no file; "" if there is one.
        error: The largest difference between file and model, as a fraction of an output's scale.
        correlation: The lowest one of an output.
    """

    refusal: str
    error: float = 0.0
    correlation: float = 0.0


def _mobile(k):
    return k.applications.MobileNetV2(
        (96, 96, 3), alpha=0.35, weights=None, classes=10, classifier_activation=None
    )


def _efficient(k):
    return k.applications.EfficientNetB0(
        input_shape=(64, 64, 3), weights=None, classes=10, classifier_activation=None
    )


def _resnet(k):
    return k.applications.ResNet50(
        input_shape=(64, 64, 3), weights=None, classes=10, classifier_activation=None
    )


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


def _masked(k):
    L = k.layers
    inputs = k.Input((8, 12))
    h = L.Dense(32)(inputs)
    h = h + L.MultiHeadAttention(2, 16)(h, h, use_causal_mask=True)
    return k.Model(inputs, L.Dense(6)(L.GlobalAveragePooling1D()(h)))


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


ARCHITECTURES: dict[str, Callable[[Any], Any]] = {
    "MobileNetV2 0.35": _mobile,
    "EfficientNetB0": _efficient,
    "ResNet50": _resnet,
    "inverted residual": _inverted_residual,
    "squeeze-excite": _squeeze_excite,
    "residual": _residual,
    "attention": _attention,
    "masked attention": _masked,
    "tokens": _tokens,
    "LSTM": _recurrent("LSTM"),
    "GRU": _recurrent("GRU"),
    "bidirectional": _bidirectional,
    "separable": _separable,
    "transposed": _transposed,
    "grouped": _grouped,
    "two inputs": _two_inputs,
}
LARGE = ("MobileNetV2 0.35", "EfficientNetB0", "ResNet50")
"""Too deep for random weights, which make noise of any rounding: they learn digits first."""
EPOCHS, IMAGES = 4, 1_280

# What the runtime cannot do, with the words that say so.
REFUSED = {
    ("keras", "attention", "int16x8"): "does not support this type",
    ("keras", "masked attention", "int16x8"): "SELECT_V2 stayed float",
    # The runtime unpacks sparse 16-bit kernels of a transposed convolution wrongly.
    ("keras", "transposed", "sparse_float16"): "disagrees with the model: .* differs by inf",
    ("tf_keras", "transposed", "sparse_float16"): "disagrees with the model: .* differs by inf",
    ("keras", "tokens", "int16x8"): "saw no range for a tensor",
    ("tf_keras", "attention", "int16x8"): "the kernels for this model crash",
    ("tf_keras", "tokens", "int16x8"): "the kernels for this model crash",
}


def fault(key: tuple[str, str, str], found: Outcome) -> str:
    """Return what is wrong with an outcome; nothing if it is right, or refused as is known."""
    expected = REFUSED.get(key)
    if expected:
        known = re.search(expected, found.refusal) and "\n" not in found.refusal
        return "" if known else f"a refusal was expected: {expected}"
    _, name, scheme = key
    four_bits = "int4" in scheme
    if found.refusal:
        # Four bits may be too few for a deep network; that is for the comparison to say.
        few = name in LARGE and four_bits and "disagrees with the model" in found.refusal
        return "" if few else "refused"
    least = (0.8 if four_bits else 0.95) if name in LARGE else (0.9 if four_bits else 0.98)
    return "" if found.correlation > least else "a wrong answer"


def outcome(generation: str, name: str, scheme: str) -> Outcome:
    """Convert a model of random weights, 80 % of them zero, and compare the file with it."""
    k = GENERATIONS[generation]
    k.backend.clear_session()
    k.utils.set_random_seed(0)
    model = ARCHITECTURES[name](k)
    if name in LARGE:
        model.set_weights(_learned(generation, name))
        x = _digits(name, model.input_shape[1])[0][-24:]
    else:
        x = _samples(model, name)
        _prepare(model, x)
    try:
        artifact = to_tflite(model, scheme=scheme, calibration=x)
    except ConversionError as error:
        return Outcome(str(error))
    face = interface(model)
    arrays = x if isinstance(x, dict) else {face.inputs[0].name: x}
    expected, got = model_outputs(face, arrays), Runner(artifact).run_named(x)
    assert list(got) == list(expected)
    found = [_compare(expected[output], got[output]) for output in expected]
    return Outcome("", max(error for error, _ in found), min(corr for _, corr in found))


def _compare(expected: np.ndarray, got: np.ndarray) -> tuple[float, float]:
    assert got.shape == expected.shape
    error = float(np.abs(got - expected).max()) / scale_of(expected)
    return error, float(np.corrcoef(got.ravel(), expected.ravel())[0, 1])


def _prepare(model: Any, x: Any) -> None:
    """Prune all kernels to 80 %, and give the BatchNorms the statistics of the samples."""
    rng = np.random.default_rng(0)
    values = []
    for weight in model.weights:
        value = np.array(weight.numpy())
        if value.ndim > 1:
            value *= rng.random(value.shape) > 0.8
        values.append(value)
    model.set_weights(values)
    _normalize(model, x)


def _normalize(model: Any, x: Any) -> None:
    """Give the BatchNorms the statistics of these samples."""
    norms = [layer for layer in model.layers if "BatchNormalization" in type(layer).__name__]
    if not norms:
        return
    momentum = norms[0].momentum
    for norm in norms:
        norm.momentum = 0.0
    model(x, training=True)
    for norm in norms:
        norm.momentum = momentum


@lru_cache
def _learned(generation: str, name: str) -> list[np.ndarray]:
    """Return weights that tell digits apart, half of each kernel zero but for the depthwise."""
    k = GENERATIONS[generation]
    k.utils.set_random_seed(0)
    model = ARCHITECTURES[name](k)
    x, y = _digits(name, model.input_shape[1])
    loss = k.losses.SparseCategoricalCrossentropy(from_logits=True)
    for rate, epochs in ((2e-3, EPOCHS), (2e-4, 1)):
        model.compile(k.optimizers.Adam(rate), loss)
        model.fit(x[:IMAGES], y[:IMAGES], epochs=epochs, batch_size=32, verbose=0)
        for layer in model.layers:
            if "Depthwise" not in type(layer).__name__:
                layer.set_weights([_halved(array) for array in layer.get_weights()])
    _normalize(model, x[:256])
    return model.get_weights()


def _halved(array: np.ndarray) -> np.ndarray:
    """Return a kernel without its smaller half; anything else as it is."""
    return array if array.ndim < 2 else array * (abs(array) >= np.median(abs(array)))


@lru_cache
def _digits(name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    times = size // 8
    large = images.reshape(-1, 8, 8, 1).repeat(times, 1).repeat(times, 2).repeat(3, 3) / 16
    return (255 * large if name == "EfficientNetB0" else large).astype("float32"), labels


def _samples(model: Any, name: str) -> Any:
    rng = np.random.default_rng(1)
    if name == "tokens":
        return rng.integers(0, 50, (24, 8)).astype("int32")
    made = {
        tensor.name: rng.normal(size=(24, *tensor.shape[1:])).astype("float32")
        for tensor in model.inputs
    }
    return made if name == "two inputs" else next(iter(made.values()))
