"""Layers and operations without a class of their own, against the file that they become."""

import inspect
import math

import keras
import numpy as np
import pytest
from keras import ops
from keras.ops import nn

from tfprune.deploy.qat.quantize_aware import is_quantize_aware, quantize_aware, strip_quantization
from tfprune.deploy.qat.rounded_call import QuantisedCall, packed
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ConversionError, ModelError
from tfprune.runtime.litert import Runner

L = keras.layers

# GroupQueryAttention of Keras passes its masks on to layers that warn about them.
pytestmark = pytest.mark.filterwarnings("ignore:Layer .*does not support masking")


@keras.saving.register_keras_serializable("tests")
class Gated(L.Layer):
    """A product with a gate, from weights of its own."""

    def build(self, shape):
        self.up = self.add_weight(shape=(shape[-1], 8), name="up")
        self.gate = self.add_weight(shape=(shape[-1], 8), name="gate")
        self.scale = self.add_weight(shape=(8,), initializer="ones", name="scale")

    def call(self, x):
        return ops.matmul(x, self.up) * ops.sigmoid(x @ self.gate) * self.scale


class ReadBack(L.Layer):
    """A table that is read by index and by matrix product."""

    def build(self, shape):
        self.table = self.add_weight(shape=(20, 8), initializer="normal", name="table")

    def call(self, x):
        rows = ops.take(self.table, ops.argmax(x, axis=-1), axis=0)
        return ops.matmul(rows, ops.transpose(self.table))


class Bell(L.Layer):
    """Has no weights, and no config that it could be made from."""

    def __init__(self, width):
        super().__init__()
        self.width = width

    def call(self, x):
        return ops.exp(-ops.square(x) * self.width) * 2.0 + x


def _embedded(x):
    return L.Embedding(9, 6, mask_zero=True)(ops.argmax(x, axis=-1))


def _masked_sum(x):
    h = L.Add()([_embedded(x), _embedded(x)])
    return L.MultiHeadAttention(2, 4)(h, h)


def _masked_groups(x):
    h = _embedded(x)
    return L.GroupQueryAttention(4, 4, 2)(h, h)


def _twice(x):
    return L.LSTM(4)(x, initial_state=L.LSTM(4, return_state=True)(x)[1:])


def _softmax_product(x):
    scores = ops.softmax(ops.einsum("abc,adc->abd", x, L.Dense(8)(x)) / 3.0)
    return ops.matmul(scores, L.Dense(8)(x))


def _joined(x):
    parts = [ops.gelu(L.Dense(8)(x)), ops.silu(L.Dense(8)(x)), ops.softmax(L.Dense(4)(x)) + 1.0]
    return ops.concatenate(parts, -1)


_SEQUENCE = (5, 8)
_IMAGE = (6, 6, 3)
_LOOPS = {
    "LSTM": (_SEQUENCE, L.LSTM(6)),
    "GRU, reset before": (_SEQUENCE, L.GRU(6, reset_after=False)),
    "SimpleRNN": (_SEQUENCE, L.SimpleRNN(6, return_sequences=True)),
    "Bidirectional": (_SEQUENCE, L.Bidirectional(L.GRU(6))),
    "RNN of cells": (_SEQUENCE, L.RNN([L.LSTMCell(4), L.GRUCell(4)])),
    "ConvLSTM2D": ((3, 5, 5, 2), L.ConvLSTM2D(3, 3)),
    "LSTM, masked": (_SEQUENCE, lambda x: L.LSTM(4)(_embedded(x))),
    "LSTM, its state passed on": (_SEQUENCE, _twice),
}
_CALLS = {
    "GroupNormalization": (_IMAGE, lambda x: L.GroupNormalization(4)(L.Conv2D(8, 3)(x))),
    "RMSNormalization": ((6,), lambda x: L.RMSNormalization()(L.Dense(8)(x))),
    "UnitNormalization": ((6,), lambda x: L.UnitNormalization()(L.Dense(8)(x))),
    "SpectralNormalization": (_IMAGE, L.SpectralNormalization(L.Conv2D(4, 3))),
    "TimeDistributed": (_SEQUENCE, L.TimeDistributed(L.Dense(8, activation="tanh"))),
    "EinsumDense, an axis shared": (_SEQUENCE, L.EinsumDense("abc,bcd->abd", (5, 3))),
    "Rescaling": (_IMAGE, lambda x: L.Conv2D(4, 3)(L.Rescaling(0.5, 0.1)(x))),
    "GroupQueryAttention": (_SEQUENCE, lambda x: L.GroupQueryAttention(4, 4, 2)(x, x)),
    "GroupQueryAttention, causal": (
        _SEQUENCE, lambda x: L.GroupQueryAttention(4, 4, 2)(x, x, use_causal_mask=True)),
    "GroupQueryAttention, masked": (_SEQUENCE, _masked_groups),
    "MultiHeadAttention, masked by a sum": (_SEQUENCE, _masked_sum),
    "Attention": (_SEQUENCE, lambda x: L.Attention()([L.Dense(4)(x), L.Dense(4)(x)])),
    "Attention, causal": (_SEQUENCE, lambda x: L.Attention(use_scale=True)(
        [L.Dense(4)(x), L.Dense(4)(x)], use_causal_mask=True)),
    "AdditiveAttention": (
        _SEQUENCE, lambda x: L.AdditiveAttention()([L.Dense(4)(x), L.Dense(4)(x)])),
    "Average of three": ((6,), lambda x: L.Average()([L.Dense(8)(x) for _ in range(3)])),
    "Dot of lengths": ((6,), lambda x: L.Dot(1, normalize=True)([L.Dense(8)(x), L.Dense(8)(x)])),
    "weights of its own": ((6,), lambda x: Gated()(x)),
    "a table read back": (_SEQUENCE, lambda x: ReadBack()(x)),
    "no config": ((6,), lambda x: Bell(0.5)(L.Dense(8)(x))),
    "Lambda": ((6,), lambda x: L.Lambda(lambda h: h * ops.sigmoid(1.7 * h))(L.Dense(8)(x))),
    "selu inside a layer": ((6,), L.Dense(8, activation="selu")),
    "a gate of operations": ((6,), lambda x: ops.sigmoid(L.Dense(8)(x)) * L.Dense(8)(x)),
    "joined functions": ((6,), _joined),
    "a product of functions": (_SEQUENCE, _softmax_product),
    "a variance": (_SEQUENCE, lambda x: ops.mean(ops.square(x - ops.mean(x, 1, True)), axis=1)),
    "choices": ((6,), lambda x: ops.maximum(
        ops.exp(L.Dense(8)(x)), ops.minimum(L.Dense(8)(x), 0.5))),
}  # fmt: skip


_SLOW_LOOPS = ("LSTM", "ConvLSTM2D", "LSTM, masked")


def _model(shape, middle) -> tuple[keras.Model, np.ndarray]:
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    h = middle(inputs)
    h = ops.reshape(h, (-1, math.prod(h.shape[1:])))
    x = np.random.default_rng(0).normal(size=(64, *shape)).astype("float32")
    return keras.Model(inputs, L.Dense(3, name="last")(h)), x


def _ranged(shape, middle) -> tuple[keras.Model, np.ndarray]:
    """Return a model under rounding whose ranges are known."""
    model, x = _model(shape, middle)
    aware = quantize_aware(model)
    for part in (x, x[::2]):
        aware(part, training=True)
    return aware, x


def _steps_off(aware, x) -> np.ndarray:
    """Return how far the int8 file is from the trained model, in steps of its output."""
    artifact = to_tflite(aware, scheme="int8")  # what stays float is an error
    return np.abs(Runner(artifact)(x) - aware(x)) / artifact.report.outputs[0].scale


# What the runtime's kernels round otherwise than the nearest step adds up from step to step.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(x, marks=pytest.mark.slow if x in _SLOW_LOOPS else pytest.mark.exhaustive)
        for x in _LOOPS
    ],
)
def test_a_loop_trains_under_the_ranges_of_its_file(name):
    steps = _steps_off(*_ranged(*_LOOPS[name]))
    assert steps.mean() < 1.0
    assert steps.max() < 8


@pytest.mark.parametrize("name", _CALLS)
@pytest.mark.slow
def test_a_call_trains_under_the_ranges_of_its_file(name):
    steps = _steps_off(*_ranged(*_CALLS[name]))
    assert steps.mean() < 1.0
    assert steps.max() < 8


@pytest.mark.slow
def test_a_cell_is_trained_and_its_zeros_stay():
    model, x = _model(_SEQUENCE, L.LSTM(6, name="memory"))
    kernel = model.get_layer("memory").cell.recurrent_kernel
    kernel.assign(kernel.numpy() * (np.arange(24) % 3 > 0))
    aware = quantize_aware(model)
    aware.compile(keras.optimizers.Adam(1e-2), "mse")
    before = aware.get_layer("memory").inner.cell.recurrent_kernel.numpy()
    aware.fit(x, np.tanh(x[:, 0, :3]), epochs=2, verbose=0)
    trained = aware.get_layer("memory").inner.cell.recurrent_kernel.numpy()
    assert np.abs(trained - before).max() > 1e-3
    plain = strip_quantization(aware).get_layer("memory")
    assert type(plain) is L.LSTM
    np.testing.assert_array_equal(plain.cell.recurrent_kernel.numpy()[:, ::3], 0)
    assert _steps_off(aware, x).mean() < 1.0


@pytest.mark.parametrize("name", ["LSTM", "weights of its own", "GroupQueryAttention, causal"])
def test_what_is_rounded_inside_is_saved_and_loaded(name, tmp_path):
    aware, x = _ranged(*(_LOOPS | _CALLS)[name])
    assert is_quantize_aware(aware)
    aware.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x), aware(x))
    for old, new in zip(
        strip_quantization(aware).get_weights(),
        strip_quantization(loaded).get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", ["Bidirectional", "a table read back", "no config", "Lambda"])
def test_without_its_rounding_a_model_is_as_before(name):
    model, x = _model(*(_LOOPS | _CALLS)[name])
    aware = quantize_aware(model)
    aware(x, training=True)
    assert np.abs(aware(x) - model(x)).max() > 1e-5
    np.testing.assert_allclose(strip_quantization(aware)(x), model(x), atol=1e-6)
    np.testing.assert_allclose(strip_quantization(quantize_aware(model))(x), model(x), atol=1e-6)


@pytest.mark.parametrize("name", ["LSTM, masked", "GroupQueryAttention, masked"])
def test_masks_reach_what_is_inside(name):
    model, x = _model(*(_LOOPS | _CALLS)[name])
    x[:, 2:] = np.eye(8)[0]  # the index that is masked
    aware = quantize_aware(model)
    np.testing.assert_allclose(aware(x), model(x), atol=0.02)
    np.testing.assert_allclose(aware.predict(x, verbose=0), aware(x), atol=1e-5)
    x[:, 3:] = np.eye(8)[1]
    assert np.abs(aware(x) - model(x)).max() < 0.02


def test_dropout_changes_no_place():
    model, x = _model(_SEQUENCE, L.GRU(4, dropout=0.5, recurrent_dropout=0.5, name="memory"))
    aware = quantize_aware(model)
    aware(x, training=True)
    made = [each for each in aware.get_layer("memory").ranges if each is not None]
    assert made
    assert all(float(each.seen) > 0 for each in made)


def test_one_layer_with_different_arguments_is_named():
    inputs = keras.Input(_SEQUENCE)
    layer = L.GroupQueryAttention(4, 4, 2, name="shared")
    h = layer(layer(inputs, inputs), inputs, use_causal_mask=True)
    with pytest.raises(ModelError, match="'shared' is called with different arguments"):
        quantize_aware(keras.Model(inputs, h))


def test_a_function_that_the_converter_fuses_has_no_range_inside():
    for name, stored in {"gelu": 0, "hard_silu": 0, "relu": 0, "hard_sigmoid": 1}.items():
        made = QuantisedCall(L.Activation(name))
        tensors, rest = packed([keras.KerasTensor((None, 4))], {})
        made.prepare(tensors, rest)
        assert (len(made.stored) > 0) == bool(stored), name


def _functions() -> dict[str, object]:
    """Return every function of one tensor, number by number, that Keras has for networks."""
    found = {}
    x = np.linspace(-3, 3, 8).astype("float32").reshape(1, 8)
    for module, names in ((keras.activations, dir(keras.activations)), (ops, dir(nn))):
        for name in names:
            function = getattr(module, name, None)
            if name[0] == "_" or not inspect.isfunction(function):
                continue
            needed = [
                each
                for each in inspect.signature(function).parameters.values()
                if each.default is inspect.Parameter.empty
            ]
            if len(needed) != 1 or name in ("get", "serialize", "deserialize"):
                continue
            if np.shape(function(x)) == x.shape and np.asarray(function(x)).dtype == "float32":
                found[f"{module.__name__.rpartition('.')[2]}.{name}"] = function
    return found


# Training under rounding finds no ranges inside these, and the file keeps them float.
_FLOAT = {"hard_shrink", "soft_shrink", "sparse_plus", "sparsemax", "threshold"}


def _sampled():
    """Every fifth function as a parameter of a slow test, the others of an exhaustive one."""
    for place, name in enumerate(_functions()):
        yield pytest.param(name, marks=pytest.mark.exhaustive if place % 5 else pytest.mark.slow)


@pytest.mark.parametrize("name", list(_sampled()))
def test_every_function_of_one_tensor_is_in_the_file(name):
    function = _functions()[name]
    apart = L.Activation(function) if name.startswith("activations") else function
    aware, x = _ranged((6,), lambda h: apart(L.Dense(8)(h)))
    if name.rpartition(".")[2] in _FLOAT:
        with pytest.raises(ConversionError, match="stayed float"):
            to_tflite(aware, scheme="int8")
    else:
        assert _steps_off(aware, x).mean() < 1.0


def test_sines_that_are_joined_stay_float_and_may_by_name():
    def waves(x):
        return L.Lambda(lambda h: ops.concatenate([ops.sin(h), ops.cos(h)], -1))(L.Dense(4)(x))

    aware, x = _ranged((6,), waves)
    with pytest.raises(ConversionError, match="the runtime has no integer kernel for COS, SIN"):
        to_tflite(aware, scheme="int8")
    artifact = to_tflite(aware, scheme="int8", allow_float=["CONCATENATION", "COS", "SIN"])
    assert np.abs(Runner(artifact)(x) - aware(x)).mean() < artifact.report.outputs[0].scale


class Masked(L.Layer):
    """A Dense layer whose kernel is assigned itself times a mask in each call."""

    def build(self, shape):
        self.dense = L.Dense(8)
        self.dense.build(shape)
        self.mask = np.tril(np.ones(self.dense.kernel.shape, "float32"))

    def call(self, x):
        self.dense.kernel.assign(self.dense.kernel * self.mask)
        return self.dense(x)


def test_a_kernel_that_calls_assign_trains_in_small_steps():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    model = keras.Model(inputs, L.Dense(2, name="out")(Masked(name="masked")(inputs)))
    aware = quantize_aware(model)
    kernel = next(one for one in aware.weights if one.shape == (8, 8))
    before = np.array(kernel)
    aware.compile(keras.optimizers.SGD(1e-6), "mse")
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    aware.fit(x, np.ones((64, 2)), epochs=1, verbose=0)
    moved = np.abs(np.array(kernel) - before)
    assert 0 < moved.max() < 1e-4
    assert not moved[np.triu(np.ones((8, 8)), 1) == 1].any()
    assert to_tflite(aware, scheme="int8").report.parity[0].correlation > 0.999
    stripped = strip_quantization(aware)
    assert np.allclose(stripped(x), aware(x, training=False), atol=0.1)


class WeightNormalized(L.Layer):
    """A Dense layer whose kernel is a direction and a length."""

    def build(self, shape):
        self.v = self.add_weight(shape=(shape[-1], 8), name="v")
        self.g = self.add_weight(shape=(8,), initializer="ones", name="g")
        self.b = self.add_weight(shape=(8,), name="b")

    def call(self, x):
        return x @ (self.g * self.v / ops.sqrt(ops.sum(ops.square(self.v), axis=0))) + self.b


@pytest.mark.parametrize("kernel", [L.SpectralNormalization, None])
def test_a_kernel_that_is_computed_from_weights_is_rounded_once(kernel):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    h = L.Conv2D(8, 3, activation="relu")(inputs)
    h = WeightNormalized()(h) if kernel is None else kernel(L.Conv2D(8, 1))(h)
    model = keras.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(h)))
    x = np.random.default_rng(0).normal(size=(64, 6, 6, 3)).astype("float32")
    aware = quantize_aware(model)
    aware.compile(keras.optimizers.SGD(1e-6), "mse")
    aware.fit(x, model.predict(x, verbose=0), epochs=2, verbose=0)
    artifact = to_tflite(aware, scheme="int8")
    assert artifact.report.parity[0].correlation > 0.9999
    assert not {"MUL", "DIV", "SQRT", "RSQRT", "SQUARE"}.intersection(artifact.report.ops)


def test_a_mean_over_what_a_mask_leaves_is_an_integer_operation():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12,), dtype="int32")
    h = L.Embedding(20, 8, mask_zero=True)(inputs)
    model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(h)))
    x = np.random.default_rng(0).integers(0, 20, (40, 12)).astype("int32")
    aware = quantize_aware(model)
    aware.compile(keras.optimizers.SGD(1e-6), "mse")
    aware.fit(x, model.predict(x, verbose=0), epochs=2, verbose=0)
    assert to_tflite(aware, scheme="int8", calibration=x).report.parity[0].correlation > 0.999
