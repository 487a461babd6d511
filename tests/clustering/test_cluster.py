"""Clustering whole models."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tfprune.clustering.cluster import (
    cluster,
    clustering_notes,
    shared_values_of,
    strip_clustering,
)
from tfprune.errors import FilterError, ModelError, OptionError, ScheduleWarning
from tfprune.sparsity.pruning import prune, strip_pruning

L = keras.layers
X, Y = np.random.default_rng(0).random((32, 8)), np.arange(32.0)[:, None] % 3


def small() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8,)),
            L.Dense(12, name="wide"),
            L.BatchNormalization(),
            L.Dense(1, name="out"),
        ]
    )


def values(model: keras.Model, name: str) -> int:
    return np.unique(np.array(model.get_layer(name).kernel)).size


def test_a_saved_model_goes_on_with_the_values_it_has(tmp_path: Path) -> None:
    model = cluster(small(), 6)
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert cluster(loaded, 6) is loaded
    np.testing.assert_array_equal(loaded.get_layer("wide").kernel, model.get_layer("wide").kernel)
    loaded.fit(X, Y, verbose=0)
    strip_clustering(loaded)
    assert values(loaded, "wide") == 6
    assert not shared_values_of(loaded)


def test_zeros_of_pruning_are_kept() -> None:
    model = strip_pruning(prune(small(), 0.5))
    zeros = np.array(model.get_layer("wide").kernel) == 0
    cluster(model, 4)
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=3, verbose=0)
    kernel = np.array(strip_clustering(model).get_layer("wide").kernel)
    assert (kernel[zeros] == 0).all()
    assert np.unique(kernel).size <= 4


def test_weights_that_are_restored_share_values_again() -> None:
    model = cluster(small(), 4)
    model.get_layer("wide").kernel.assign_add(np.random.default_rng(1).random((8, 12)) / 50)
    with pytest.warns(ScheduleWarning, match=r"put \d+ weights of .*wide/kernel back"):
        strip_clustering(model)
    assert values(model, "wide") == 4


def test_layers_are_clustered_when_they_are_built() -> None:
    model = keras.Sequential([cluster(L.Dense(12, name="wide"), 4), L.Dense(1)])
    model(X)
    assert values(model, "wide") == 4


def test_what_is_left_out_is_named() -> None:
    model = cluster(small(), 4, skip="out")
    notes = clustering_notes(model)
    assert any(note.startswith("clustered:") and "wide" in note for note in notes)
    assert any("out/kernel: left out by only= or skip=" in note for note in notes)
    assert any("batch_normalization" in note for note in notes)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"clusters": 1}, OptionError, "clusters: expected a whole number, 2 or more. Received 1."),
        ({"clusters": True}, OptionError, "Received True"),
        ({"init": "kmean"}, OptionError, "unknown centroid init 'kmean'.*kmeans"),
        ({"only": "nowhere"}, FilterError, "only: 'nowhere' matches nothing"),
        ({"clusters": 500}, ModelError, "no kernel of more than 500 weights"),
    ],
)
def test_wrong_options_are_one_line_and_change_nothing(options, error, text) -> None:
    model = small()
    before = np.array(model.get_layer("wide").kernel)
    with pytest.raises(error, match=text) as caught:
        cluster(model, **options)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(model.get_layer("wide").kernel, before)
    assert not shared_values_of(model)


def test_masks_are_removed_first_and_a_model_is_needed() -> None:
    with pytest.raises(ModelError, match=r"masks of prune\(\) hold .*strip_pruning"):
        cluster(prune(small(), 0.5), 4)
    with pytest.raises(ModelError, match="expected a Keras 3 model, layer or list"):
        cluster("model")
