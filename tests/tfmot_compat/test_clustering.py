"""Clustering by the names of tensorflow-model-optimization."""

from pathlib import Path

import keras
import numpy as np
import pytest

import tfprune as clustering
from tfprune.errors import ModelError, OptionError

L = keras.layers
X, Y = np.random.default_rng(0).random((32, 8)), np.ones((32, 1))


def small(api=keras):
    return api.Sequential([api.layers.InputLayer((8,)), api.layers.Dense(12), api.layers.Dense(1)])


@pytest.mark.slow
@pytest.mark.parametrize("init", clustering.CentroidInitialization)
@pytest.mark.parametrize("aggregation", clustering.GradientAggregation)
def test_a_script_for_the_toolkit_runs(tmp_path: Path, init, aggregation) -> None:
    model = clustering.cluster_weights(
        small(), number_of_clusters=3, cluster_centroids_init=init, preserve_sparsity=True,
        cluster_gradient_aggregation=aggregation,
    )  # fmt: skip
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0, callbacks=[clustering.ClusteringSummaries(str(tmp_path / "logs"))])
    assert list((tmp_path / "logs" / "clustering").iterdir())
    model.save(tmp_path / "model.keras")
    with clustering.cluster_scope():
        keras.models.load_model(tmp_path / "model.keras")
    assert clustering.cluster_weights(model, 2) is model
    assert np.unique(np.array(clustering.strip_clustering(model).layers[0].kernel)).size <= 3


def test_layers_of_ones_own_name_their_weights() -> None:
    class Own(L.Layer, clustering.ClusterableLayer):
        def build(self, shape):
            self.table = self.add_weight(shape=(shape[-1], 6), initializer="normal", name="table")

        def call(self, x):
            return x @ self.table

        def get_clusterable_weights(self):
            return [("table", self.table)]

    class Odd(Own):
        def get_clusterable_algorithm(self, weight_name):
            return object

    model = clustering.cluster_weights(keras.Sequential([keras.Input((8,)), Own()]), 4)
    assert np.unique(np.array(model.layers[0].table)).size == 4
    with pytest.raises(ModelError, match="get_clusterable_algorithm"):
        clustering.cluster_weights(keras.Sequential([keras.Input((8,)), Odd()]), 4)


def test_wrong_arguments_are_one_line() -> None:
    with pytest.raises(OptionError, match="number_of_clusters: expected .* Received 1"):
        clustering.cluster_weights(small(), 1)
    with pytest.raises(OptionError, match="cluster_centroids_init: expected a member"):
        clustering.cluster_weights(small(), 4, "somewhere")
    with pytest.raises(OptionError, match="unexpected argument 'block_size'"):
        clustering.cluster_weights(small(), 4, block_size=(1, 1))


def test_models_of_tf_keras_are_clustered_by_the_toolkit() -> None:
    import tf_keras

    model = clustering.cluster_weights(small(tf_keras), 4)
    assert type(model.layers[0]).__name__ == "ClusterWeights"
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    stripped = clustering.strip_clustering(model)
    assert np.unique(stripped.layers[0].kernel.numpy()).size <= 4
