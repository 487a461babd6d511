"""The guides of tensorflow-model-optimization, in our words, with only the import changed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

from tfprune import tfmot, to_tflite
from tfprune.measure.size import stored_weights
from tfprune.runtime import flatbuffer
from tfprune.runtime.litert import Runner

# What `TFLiteConverter` says of every rounded model.
pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning")

L = tf.keras.layers
IMAGES, LABELS = load_digits(return_X_y=True)
IMAGES = (IMAGES.reshape(-1, 8, 8) / 16).astype("float32")
quantization = tfmot.quantization.keras
combine = tfmot.experimental.combine


def fit(model, callbacks=(), epochs=1, rate=3e-3):
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = tf.keras.optimizers.Adam(learning_rate=rate)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    model.fit(IMAGES[:1500], LABELS[:1500], 50, epochs, verbose=0, callbacks=list(callbacks))
    return model


def dense(**first) -> keras.Model:
    layers = [L.Flatten(), L.Dense(24, activation="relu", **first), L.Dense(10)]
    return tf.keras.Sequential([L.InputLayer(shape=(8, 8)), *layers])


def of_kernels(model, measure) -> list[float]:
    """Look at kernels as the guides do."""
    found = []
    for layer in model.layers:
        wrapped = isinstance(layer, tf.keras.layers.Wrapper)
        for weight in layer.trainable_weights if wrapped else layer.weights:
            if "kernel" in weight.name and "centroid" not in weight.name:
                found.append(measure(weight.numpy()))
    return found


def zeros(kernel) -> float:
    return float(np.mean(kernel == 0))


def values(kernel) -> int:
    return int(np.unique(kernel).size)


def converted(model, *optimizations) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = list(optimizations)
    return converter.convert()


def accuracy(data: bytes) -> float:
    return float(np.mean(Runner(data)(IMAGES[1500:]).argmax(1) == LABELS[1500:]))


def in_file(data: bytes, measure) -> list[float]:
    stored = [v for tensor, v in stored_weights(flatbuffer.parse(data)) if len(tensor.shape) > 1]
    assert {kernel.dtype for kernel in stored} == {np.dtype("int8")}
    return [measure(kernel) for kernel in stored]


def pruned():
    api = tfmot.sparsity.keras
    schedule = api.ConstantSparsity(0.5, begin_step=0, frequency=100)
    model = api.prune_low_magnitude(fit(dense(), epochs=3), pruning_schedule=schedule)
    return api.strip_pruning(fit(model, [api.UpdatePruningStep()]))


def preserving(model, scheme):
    return fit(quantization.quantize_apply(quantization.quantize_annotate_model(model), scheme))


def test_a_sequential_that_begins_with_an_annotated_layer_has_its_input_shape() -> None:
    with pytest.warns(UserWarning, match="Do not pass an `input_shape`"):
        first = L.Dense(20, input_shape=(20,))
    annotated = tf.keras.Sequential([quantization.quantize_annotate_layer(first), L.Flatten()])
    model = quantization.quantize_apply(annotated)
    assert model.input_shape == (None, 20)
    assert any(layer.name == f"quant_{first.name}" for layer in model.layers)


def test_annotated_layers_make_a_functional_model() -> None:
    inputs = tf.keras.Input(shape=(20,))
    x = quantization.quantize_annotate_layer(L.Dense(10, name="ten"))(inputs)
    model = quantization.quantize_apply(tf.keras.Model(inputs, L.Flatten()(x)))
    assert model.get_layer("quant_ten")


def test_layers_of_a_model_under_construction_are_clustered() -> None:
    api = tfmot.clustering.keras
    params = {
        "number_of_clusters": 3,
        "cluster_centroids_init": api.CentroidInitialization.DENSITY_BASED,
    }

    class WithBias(tf.keras.layers.Dense, api.ClusterableLayer):
        def get_clusterable_weights(self):
            return [("kernel", self.kernel), ("bias", self.bias)]

    own = api.cluster_weights(WithBias(20, bias_initializer="normal"), **params)
    model = tf.keras.Sequential([tf.keras.Input((20,)), own, L.Flatten()])
    assert [values(w) for w in model.get_weights()] == [3, 3]
    inputs = tf.keras.Input((20,))
    model = tf.keras.Model(inputs, api.cluster_weights(L.Dense(10), **params)(inputs))
    assert of_kernels(model, values) == [3]
    again = tf.keras.models.clone_model(
        dense(), clone_function=lambda layer: api.cluster_weights(layer, **params)
    )
    assert of_kernels(again, values) == [3, 3]


@pytest.mark.slow
def test_training_example() -> None:
    base = fit(dense(), epochs=3)
    aware = fit(quantization.quantize_model(base))
    aware.summary(print_fn=lambda *args, **options: None)
    data = converted(aware, tf.lite.Optimize.DEFAULT)
    assert len(in_file(data, zeros)) == 2
    trained = aware.evaluate(IMAGES[1500:], LABELS[1500:], verbose=0)[1]
    assert accuracy(data) == pytest.approx(trained, abs=0.01)
    assert len(data) < len(converted(base))


@pytest.mark.slow
def test_two_zeros_of_four_beside_half_of_the_weights() -> None:
    api = tfmot.sparsity.keras
    half = api.ConstantSparsity(target_sparsity=0.5, begin_step=0, frequency=100)
    model = tf.keras.Sequential([
        tf.keras.Input((8, 8, 1)),
        api.prune_low_magnitude(L.Conv2D(8, 5, padding="same"), pruning_schedule=half),
        api.prune_low_magnitude(L.Conv2D(8, 3), sparsity_m_by_n=(2, 4)),
        L.BatchNormalization(),
        L.ReLU(),
        L.Flatten(),
        L.Dropout(0.4),
        api.prune_low_magnitude(L.Dense(10), sparsity_m_by_n=(2, 4)),
    ])  # fmt: skip
    model = api.strip_pruning(fit(model, [api.UpdatePruningStep()]))
    data = converted(model)
    kernels = [v for tensor, v in stored_weights(flatbuffer.parse(data)) if len(tensor.shape) > 1]
    assert [zeros(kernel) for kernel in kernels] == [0.5] * 3
    last = min(kernels, key=lambda kernel: kernel.ndim)
    assert ((last.reshape(-1, 4) == 0).sum(1) == 2).all()


@pytest.mark.exhaustive
def test_combined_zeros_and_clusters_are_in_the_file() -> None:
    """The example of sparse clustering and those of PQAT, CQAT and PCQAT."""
    api = tfmot.clustering.keras
    sparse = pruned()
    assert of_kernels(sparse, zeros) == [0.5, 0.5]
    lost = fit(quantization.quantize_model(sparse))
    assert max(of_kernels(lost, zeros)) < 0.4
    pqat = preserving(sparse, combine.Default8BitPrunePreserveQuantizeScheme())
    assert of_kernels(pqat, zeros) == [0.5, 0.5]
    assert min(in_file(converted(pqat, tf.lite.Optimize.DEFAULT), zeros)) >= 0.5

    clustered = api.experimental.cluster.cluster_weights(
        sparse,
        number_of_clusters=8,
        cluster_centroids_init=api.CentroidInitialization.KMEANS_PLUS_PLUS,
        preserve_sparsity=True,
    )
    clustered = api.strip_clustering(fit(clustered))
    # Further weights may join those that are zero.
    kept = of_kernels(clustered, zeros)
    assert min(kept) >= 0.5
    assert max(of_kernels(clustered, values)) <= 8
    for preserve_sparsity in (False, True):
        scheme = combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity)
        model = preserving(clustered, scheme)
        assert max(of_kernels(model, values)) <= 8
        # `TFLiteConverter` gives each channel a scale, and a kernel has more values.
        data = to_tflite(model, scheme="int8").bytes
        assert max(in_file(data, values)) <= 8
        if preserve_sparsity:
            assert min(of_kernels(model, zeros)) >= min(kept)
            assert min(in_file(data, zeros)) >= min(kept)
