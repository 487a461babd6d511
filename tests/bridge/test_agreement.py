"""Random input fits the model, and a difference is measured in units of the outputs' scale."""

import keras
import numpy as np
import pytest

from tfprune.bridge.agreement import Sampler, agree, difference, tolerance
from tfprune.bridge.graphs import graph_of
from tfprune.bridge.layer_configs import Side
from tfprune.errors import ModelError
from tfprune.graph.graph import Value

SIDE = Side(keras, "keras")


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([0.0, 4.0], [0.0, 4.0], 0.0),
        ([0.0, 4.0], [1.0, 4.0], 0.25),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [0.0, 1.0], np.inf),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.nan], [1.0, 2.0], np.inf),
        ([1.0], [1.0, 1.0], np.inf),
        ([], [], 0.0),
    ],
)
def test_difference_is_relative_to_the_scale(left, right, expected) -> None:
    assert difference(np.array(left), np.array(right)) == expected
    assert agree(np.array(left), np.array(right), 0.2) == (expected <= 0.2)


def test_random_inputs_fit_the_model() -> None:
    tokens = keras.Input((6,), name="tokens")
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(5, 3)(tokens))
    y = keras.layers.GlobalAveragePooling2D()(image)
    model = keras.Model([tokens, image], [x, y])
    graph = graph_of(model, SIDE)
    first, second = graph.inputs
    sampler = Sampler(graph, SIDE, padded=True)
    rows = sampler(first)
    assert rows.dtype == np.float32
    assert set(np.unique(rows)) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert (rows[-1, 4:] == 0).all()
    assert (rows[0] > 0).all()
    assert (Sampler(graph, SIDE, padded=False)(first) > 0).all()
    assert sampler(second).shape == (2, 32, 32, 3)
    assert sampler.array(Value((7, 2), "bool"), indices=False).shape == (7, 2)
    with pytest.raises(ModelError, match="strings"):
        sampler.array(Value((None, 1), "string"), indices=False)


def test_half_precision_has_a_larger_tolerance() -> None:
    def model(dtype: str) -> keras.Model:
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, dtype=dtype)])

    assert tolerance(model("float32")) == 1e-5
    assert tolerance(model("mixed_float16")) == 1e-2
