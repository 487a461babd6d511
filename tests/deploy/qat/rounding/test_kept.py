"""What stays of a weight under rounding."""

import keras
import numpy as np
import pytest

from tfprune.clustering.cluster import cluster, strip_clustering
from tfprune.deploy.qat.quantize_aware import quantize_aware, strip_quantization
from tfprune.deploy.qat.rounding.kept import groups_of
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ModelError
from tfprune.measure.size import stored_weights
from tfprune.runtime import flatbuffer

L = keras.layers
RNG = np.random.default_rng(0)
X, Y = RNG.random((32, 8, 8, 1), np.float32), np.arange(32) % 3


def clustered(clusters: int = 5) -> keras.Model:
    """Return a clustered network half of whose weights are zero."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), L.Conv2D(6, 3, use_bias=False, name="first"),
         L.BatchNormalization(), L.ReLU(), L.Conv2D(8, 3, name="second"), L.Flatten(),
         L.Dense(3, name="out")]
    )  # fmt: skip
    norm = model.layers[1]
    norm.gamma.assign([1.0, 0.5, 2.0, 1.0, 0.0, -1.0])
    for name in ("first", "second", "out"):
        kernel = model.get_layer(name).kernel
        value = np.array(kernel)
        kernel.assign(np.where(np.abs(value) < np.median(np.abs(value)), 0, value))
    return strip_clustering(cluster(model, clusters))


def integers(data: bytes) -> list[np.ndarray]:
    weights = stored_weights(flatbuffer.parse(data))
    return [values for tensor, values in weights if len(tensor.shape) > 1]


def test_groups_are_found_in_the_kernel_or_in_each_channel() -> None:
    assert groups_of(RNG.random((4, 6)), None) is None
    assert groups_of(np.ones((4, 6)), None) is None
    whole = groups_of(np.array([[1.0, 2, 1, 2], [0, 0, 2, 1]]), None)
    assert whole is not None
    assert whole.count == 3
    np.testing.assert_array_equal(whole.index, [[1, 2, 1, 2], [0, 0, 2, 1]])
    channels = np.stack([RNG.choice(RNG.random(3), 400) for _ in range(120)], axis=1)
    found = groups_of(channels, -1)
    assert found is not None
    assert (found.count, found.by_channel) == (360, True)


@pytest.mark.parametrize("keep_zeros", [True, False])
def test_the_file_has_no_more_integers_than_values_after_training(keep_zeros: bool) -> None:
    model = clustered()
    aware = quantize_aware(model, keep_zeros=keep_zeros, keep_clusters=True)
    aware.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    aware.fit(X, Y, epochs=2, verbose=0)
    kernels = integers(to_tflite(aware, scheme="int8", calibration=X).bytes)
    assert len(kernels) == 3
    assert all(np.unique(kernel).size <= 5 for kernel in kernels)
    if keep_zeros:
        assert all((kernel == 0).mean() >= 0.49 for kernel in kernels)


def test_the_file_has_no_more_integers_than_values_without_training() -> None:
    made = to_tflite(clustered(), scheme="int8", calibration=X)
    assert all(np.unique(kernel).size <= 5 for kernel in integers(made.bytes))
    assert "weights that are equal in the model are equal in the file" in made.report.notes


def test_groups_are_in_the_file_of_the_model(tmp_path) -> None:
    aware = quantize_aware(clustered(), keep_clusters=True)
    aware.save(tmp_path / "aware.keras")
    loaded = keras.models.load_model(tmp_path / "aware.keras")
    loaded.compile("adam", "mse")
    loaded.fit(X, np.ones((32, 3)), verbose=0)
    stripped = strip_quantization(loaded)
    assert np.unique(np.array(stripped.get_layer("second").kernel)).size <= 5


def test_a_model_without_shared_values_is_refused() -> None:
    model = keras.Sequential([keras.Input((8,)), L.Dense(4)])
    with pytest.raises(ModelError, match="keep_clusters: no kernel .* share values"):
        quantize_aware(model, keep_clusters=True)
