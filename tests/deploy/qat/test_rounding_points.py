"""Where ranges stand, against the scales of the file."""

import keras
import numpy as np
import pytest

from tfprune.deploy.qat.quantize_aware import quantize_aware, strip_quantization
from tfprune.deploy.qat.rounding.ranges import ActivationRange
from tfprune.deploy.tflite import to_tflite
from tfprune.runtime import flatbuffer
from tfprune.runtime.litert import Runner

L = keras.layers


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "tanh"])
@pytest.mark.parametrize("how", ["layer", "argument", "function"])
@pytest.mark.slow
def test_what_has_fixed_steps_in_the_file_is_trained_under_those(kind, how, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    inside = kind if how == "argument" else None
    h = L.Conv2DTranspose(4, 3, activation=inside, name="first")(inputs)
    if how != "argument":
        h = L.Activation(kind)(h) if how == "layer" else getattr(keras.ops, kind)(h)
    model = keras.Model(inputs, L.Conv2D(2, 1)(h))
    x = np.random.default_rng(0).normal(size=(60, 6, 6, 3)).astype("float32")
    aware = quantize_aware(model)
    aware(x, training=True)
    aware.save(tmp_path / "m.keras")
    aware = keras.models.load_model(tmp_path / "m.keras")
    artifact = to_tflite(aware, scheme="int8")
    # It would be rounded a second time, to the range that training has seen.
    assert "QUANTIZE" not in artifact.report.ops
    got, step = Runner(artifact)(x), artifact.report.outputs[0].scale
    assert np.mean(np.abs(got - aware(x)) > 0.01 * step) < 0.05


def test_what_only_rearranges_has_no_range_of_its_own():
    inputs = keras.Input((6, 8))
    h = keras.ops.transpose(L.Dense(4, name="first")(inputs), (0, 2, 1))
    h = keras.ops.swapaxes(keras.ops.expand_dims(h, 1), 2, 3)
    h = keras.ops.squeeze(keras.ops.moveaxis(h, 1, 2), 2)
    model = keras.Model(inputs, L.Dense(2, name="last")(h))
    x = np.random.default_rng(0).normal(size=(50, 6, 8)).astype("float32")
    aware = quantize_aware(model)
    # Two ranges of the same numbers would differ in the last digit, which the converter refuses.
    for start in range(0, 50, 10):
        aware(x[start : start + 10], training=True)
    ranges = [layer.name for layer in aware.layers if isinstance(layer, ActivationRange)]
    assert ranges[1:] == ["first_range", "last_range"]
    artifact = to_tflite(aware, scheme="int8")
    assert "QUANTIZE" not in artifact.report.ops
    step = artifact.report.outputs[0].scale
    assert np.abs(Runner(artifact)(x) - aware(x)).max() < 1.01 * step


RELUS = {
    "Activation": L.Activation("relu"),
    "ReLU": L.ReLU(),
    "activations.relu": keras.activations.relu,
    "ops.relu": keras.ops.relu,
    "ops.relu6": keras.ops.relu6,
}


@pytest.mark.parametrize("name", RELUS)
def test_a_relu_has_the_range_of_its_convolution_however_it_is_written(name):
    inputs = keras.Input((4, 4, 3))
    h = RELUS[name](L.Conv2D(4, 3, name="conv")(inputs))
    model = keras.Model(inputs, L.Dense(2, name="last")(L.Flatten()(h)))
    aware = quantize_aware(model)
    ranges = [layer.name for layer in aware.layers if isinstance(layer, ActivationRange)]
    assert len(ranges) == 3
    assert "conv_range" not in ranges
    aware(np.random.default_rng(0).normal(size=(50, 4, 4, 3)).astype("float32"), training=True)
    assert set(to_tflite(aware, scheme="int8").report.ops) <= {
        "CONV_2D", "FULLY_CONNECTED", "RESHAPE"
    }  # fmt: skip


def test_a_sequential_model_takes_its_input_as_before():
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, activation="tanh"), L.Dense(2)])
    x = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")
    aware = quantize_aware(model)
    aware(x, training=True)
    np.testing.assert_allclose(aware(x), model(x), atol=0.1)
    np.testing.assert_allclose(Runner(to_tflite(aware, scheme="int8"))(x), aware(x), atol=0.05)


def _block(h, filters, size=3):
    h = L.Conv2D(filters, size, padding="same", use_bias=False)(h)
    return L.ReLU()(L.BatchNormalization()(h))


def _unet(interpolation):
    inputs = keras.Input((8, 8, 3))
    skip = _block(inputs, 6)
    h = _block(L.MaxPooling2D()(skip), 8)
    h = L.UpSampling2D(interpolation=interpolation)(h)
    h = _block(L.Concatenate(name="joined")([h, skip]), 6)
    return keras.Model(inputs, L.Conv2D(2, 1, name="last")(h))


def _dense_block(inputs):
    h = _block(inputs, 6)
    for _ in range(3):
        h = L.Concatenate()([h, _block(h, 4)])
    return _block(h, 6, 1)


def _pair(inputs):
    wide = keras.initializers.RandomNormal(stddev=1.0, seed=0)
    return L.Conv2D(4, 3, name="a")(inputs), L.Conv2D(4, 3, name="b", kernel_initializer=wide)(
        inputs
    )


def _small(build):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, L.Conv2D(2, 1, name="last")(build(inputs)))


# What joins tensors, or makes new ones under the scale of the old; the least share of the file's
# numbers that are those that were trained; how many tensors the file rounds a second time, after
# which fewer are the same.
_ALIKE = {
    "U-Net": (lambda: _unet("nearest"), 0.75, 1),
    "U-Net, bilinear": (lambda: _unet("bilinear"), 0.75, 1),
    # A stem that a convolution reads too is rounded again in front of the first join, none after.
    "DenseNet block": (lambda: _small(_dense_block), 0.95, 1),
    "inputs": (lambda: _small(lambda h: L.Concatenate()([h, L.Permute((2, 1, 3))(h)])), 0.99, 0),
    "concatenate, ReLU": (lambda: _small(
        lambda h: L.ReLU()(keras.ops.concatenate(_pair(h), -1))), 0.99, 0),
    "chain": (lambda: _small(lambda h: L.Concatenate()([L.Concatenate()(_pair(h)),
                                                        L.MaxPooling2D(3, 1)(h)])), 0.95, 1),
    "pooled": (lambda: _small(lambda h: L.Concatenate()([L.AveragePooling2D(3, 1)(t)
                                                         for t in _pair(h)])), 0.95, 0),
    "resized": (lambda: _small(lambda h: L.UpSampling2D(interpolation="bilinear")(_pair(h)[0])),
                0.9, 0),
    "Maximum": (lambda: _small(lambda h: L.Maximum()(_pair(h))), 0.99, 0),
    "Minimum, ReLU": (lambda: _small(lambda h: L.ReLU()(L.Minimum()(_pair(h)))), 0.99, 0),
    "stack": (lambda: _small(lambda h: L.Reshape((6, 6, 8))(keras.ops.stack(_pair(h), -1))),
              0.99, 0),
    "where": (lambda: _small(lambda h: keras.ops.where(h[:, :1, :1, :1] > 0, *_pair(h))), 0.99, 0),
    "slice, pad": (lambda: _small(lambda h: keras.ops.pad(
        _pair(h)[0][:, 1:4], [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=0.3)), 0.99, 0),
    "clip": (lambda: _small(lambda h: keras.ops.clip(_pair(h)[0], -0.5, 0.5)), 0.97, 0),
    "split, maximum of all": (lambda: _small(lambda h: keras.ops.max(keras.ops.concatenate(
        keras.ops.split(_pair(h)[1], 2, -1)[::-1], -1), 1, keepdims=True)), 0.99, 0),
}  # fmt: skip

_ONE_SCALE = (
    "AVERAGE_POOL_2D", "CONCATENATION", "MAXIMUM", "MINIMUM", "PACK", "PADV2", "RESIZE_BILINEAR",
    "SELECT_V2", "SPLIT", "STRIDED_SLICE",
)  # fmt: skip


@pytest.mark.parametrize("name", _ALIKE)
@pytest.mark.slow
def test_tensors_of_one_scale_in_the_file_are_trained_under_one_range(name, tmp_path):
    keras.utils.set_random_seed(0)
    make, least, twice = _ALIKE[name]
    model = make()
    x = np.random.default_rng(0).normal(size=(96, 8, 8, 3)).astype("float32")
    aware = quantize_aware(model)
    aware.compile(keras.optimizers.Adam(1e-4), "mse")
    aware.fit(x, model.predict(x, verbose=0), epochs=1, verbose=0)
    aware.save(tmp_path / "m.keras")
    aware = keras.models.load_model(tmp_path / "m.keras")
    assert [layer.name for layer in strip_quantization(aware).layers[1:]] == [
        layer.name for layer in model.layers[1:] if "batch_norm" not in layer.name
    ]
    artifact = to_tflite(aware, scheme="int8")
    assert artifact.report.ops.get("QUANTIZE", 0) == twice
    trained = set()
    for layer in aware.layers:
        if isinstance(layer, ActivationRange):
            low, high, _ = layer.limits(np.zeros(1, "float32"), False)
            trained.add(float(high - low) / 255)
    (graph,) = flatbuffer.parse(artifact.bytes).subgraphs
    seen = 0
    for op in graph.ops:
        tensors = [graph.tensors[i] for i in (*op.inputs, *op.outputs)]
        scales = {(t.scales, t.zero_points) for t in tensors if t.dtype == "int8"}
        if op.name not in _ONE_SCALE or not scales:
            continue
        seen += 1
        ((scale, _),) = scales
        assert any(scale == pytest.approx((step,), rel=1e-5) for step in trained)
    assert seen
    steps = np.abs(Runner(artifact)(x) - aware.predict(x, verbose=0))
    steps /= artifact.report.outputs[0].scale
    assert np.mean(steps < 0.01) > least
    assert steps.mean() < 0.3


def _range_layers(model) -> list[str]:
    aware = quantize_aware(model)
    return [layer.name for layer in aware.layers if isinstance(layer, ActivationRange)][1:]


def test_an_input_of_a_join_that_others_read_has_its_own_range():
    def build(read, activation=None):
        inputs = keras.Input((8, 8, 3))
        first = L.Conv2D(4, 1, name="first", activation=activation)(inputs)
        second = L.Conv2D(4, 1, name="second")(inputs)
        joined = L.Concatenate(name="joined")([first, second])
        return keras.Model(inputs, [joined, *read(first)])

    assert _range_layers(build(lambda first: [])) == ["joined_range"]
    assert set(_range_layers(build(lambda first: [first]))) == {"first_range", "joined_range"}
    other = build(lambda first: [L.Conv2D(2, 1, name="other")(first)])
    assert set(_range_layers(other)) == {"first_range", "joined_range", "other_range"}
    # Its kernel has a scale of its own.
    assert set(_range_layers(build(lambda first: [], "sigmoid"))) == {"first_range", "joined_range"}


def test_joins_that_read_each_other_have_one_range_whatever_else_reads_them():
    inputs = keras.Input((8, 8, 3))
    h = L.Conv2D(4, 1, name="stem")(inputs)
    for i in range(3):
        h = L.Concatenate(name=f"join_{i}")([h, L.Conv2D(4, 1, name=f"conv_{i}")(h)])
    assert set(_range_layers(keras.Model(inputs, h))) == {"stem_range", "join_2_range"}


def test_what_the_model_gives_out_is_no_part_of_what_reads_it():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    given = [L.Conv2D(4, 1, name=name)(inputs) for name in ("first", "second")]
    norm = L.BatchNormalization(gamma_initializer="random_normal", name="norm")
    model = keras.Model(inputs, [*given, L.ReLU()(given[0]), norm(given[1])])
    x = np.random.default_rng(0).normal(size=(50, 6, 6, 3)).astype("float32")
    aware = quantize_aware(model)
    # Folded into the convolution, the norm would change what that gives.
    for got, expected in zip(strip_quantization(aware)(x), model(x), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    assert {"first_range", "second_range"} <= set(_range_layers(model))


def test_what_depends_on_no_input_is_computed_when_the_file_is_written():
    """An embedding of all nodes of a graph, of which the input chooses some."""
    keras.utils.set_random_seed(0)

    class Nodes(keras.layers.Layer):
        def build(self, shape):
            self.features = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
            self.hidden = keras.layers.Dense(8, activation="gelu")
            self.hidden.build((12, 6))
            self.groups = np.arange(12, dtype="int32") // 2

        def call(self, ids):
            h = self.hidden(keras.ops.convert_to_tensor(self.features))
            h = keras.ops.segment_sum(h, self.groups, num_segments=6)
            return keras.ops.take(h, keras.ops.squeeze(ids, -1), axis=0)

    inputs = keras.Input((1,), dtype="int32")
    shared = keras.layers.Dense(5, name="shared")
    model = keras.Model(inputs, shared(Nodes()(inputs)))
    x = np.arange(6, dtype="int32")[:, None]
    aware = quantize_aware(model)
    aware.compile("sgd", "mse")
    aware.fit(x, np.zeros((6, 5)), epochs=1, verbose=0)
    artifact = to_tflite(aware, scheme="int8")
    # The file gathers rows of a table, and multiplies.
    assert not {"UNSORTED_SEGMENT_SUM", "SEGMENT_SUM", "MUL"}.intersection(artifact.report.ops)
    assert artifact.report.parity[0].correlation > 0.999


def test_activations_that_the_converter_merges_have_one_range():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    h = L.Conv2D(6, 3)(inputs)
    one, two = L.Activation("relu")(h), L.ReLU()(h)
    # The second shares the range of what it is joined with.
    h = L.concatenate([L.Conv2D(6, 1)(one), two])
    model = keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling2D()(h)))
    aware = quantize_aware(model)
    x = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")
    aware(x[:20], training=True)
    aware(x[20:], training=True)
    assert to_tflite(aware, scheme="int8").report.parity[0].correlation > 0.999


@pytest.mark.parametrize("norm", [False, True])
def test_a_relu_behind_a_transposed_convolution_of_a_sequence_is_fused(norm):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 3))
    last = None if norm else "relu"
    h = L.Conv1DTranspose(8, 7, strides=2, padding="same", activation=last)(inputs)
    h = L.ReLU()(L.BatchNormalization()(h)) if norm else h
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(h)))
    aware = quantize_aware(model)
    x = np.random.default_rng(0).normal(size=(40, 12, 3)).astype("float32")
    aware(x, training=True)
    report = to_tflite(aware, scheme="int8").report
    assert "RELU" not in report.ops
    assert report.parity[0].correlation > 0.999
