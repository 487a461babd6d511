from typing import Any

import keras
import numpy as np
import pytest

import tfprune
from tfprune.errors import FilterError, ModelError, OptionError

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 8, 8, 3)).astype("float32")
# Neighboring pixels are alike, as in photographs.
X = (X + np.roll(X, 1, axis=1) + np.roll(X, 1, axis=2)) * [1.0, 2.0, 0.5]


def mobile() -> Any:
    """Return a small net with a depthwise convolution of two channels for each."""
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    h = L.Conv2D(8, 3, activation="relu", name="stem")(x)
    h = L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu", name="depthwise")(h)
    h = L.Conv2D(12, 1, activation="relu", name="point")(h)
    return keras.Model(x, L.Dense(5, name="head")(L.Flatten()(h)), name="mobile")


def error(model: Any, wanted: np.ndarray) -> float:
    found = model.predict(X, verbose=0)
    return float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))


def test_outputs_stay_nearer_than_by_rounding_each_weight() -> None:
    model = mobile()
    trained, wanted = model.get_weights(), model.predict(X, verbose=0)
    assert tfprune.round_weights(model, X, bits=3, batch_size=20) is model
    joint = error(model, wanted)
    names = [row.path.split("/")[0] for row in tfprune.oneshot_report(model)]
    assert names == ["stem", "point", "head"]
    assert np.array_equal(model.get_layer("depthwise").kernel, trained[2])
    model.set_weights(trained)
    for layer in model.layers:
        if layer.weights and layer.name != "depthwise":
            kernel = layer.kernel.numpy()
            step = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))) / 3
            layer.kernel.assign(np.rint(kernel / step) * step)
    assert joint < 0.6 * error(model, wanted)


def test_depthwise_kernels_are_rounded_for_eight_bits() -> None:
    model = mobile()
    trained, wanted = model.get_weights(), model.predict(X, verbose=0)
    tfprune.round_weights(model, X, bits=8)
    for before, layer in zip(trained[::2], [x for x in model.layers if x.weights], strict=True):
        kernel = layer.kernel.numpy()
        outputs = kernel.shape[-2:] if layer.name == "depthwise" else kernel.shape[-1:]
        rows = kernel.reshape(-1, *outputs)
        largest = np.abs(rows).max(axis=0)
        assert np.allclose(rows / largest * 127, np.rint(rows / largest * 127), atol=1e-3)
        assert np.abs(kernel - before).max() > 0
    assert error(model, wanted) < 0.01
    assert tfprune.oneshot_report(model)["depthwise/kernel"].method == "reconstruct"


def test_zeros_stay_zero_and_layers_can_be_left() -> None:
    model = tfprune.strip_pruning(tfprune.prune(mobile(), 0.5))
    before = [layer.kernel.numpy() for layer in model.layers if layer.weights]
    tfprune.round_weights(model, X, bits=4, skip="head")
    after = [layer.kernel.numpy() for layer in model.layers if layer.weights]
    assert all(not new[old == 0].any() for old, new in zip(before, after, strict=True))
    assert np.array_equal(before[-1], after[-1])


def test_wrong_calls() -> None:
    with pytest.raises(OptionError, match="bits: expected one of"):
        tfprune.round_weights(mobile(), X, bits=6)
    with pytest.raises(FilterError, match="gone"):
        tfprune.round_weights(mobile(), X, only="gone")
    with pytest.raises(ModelError, match="round_weights: expected a keras.Model"):
        tfprune.round_weights(L.Dense(2), X)  # type: ignore[type-var]
    bare = keras.Sequential([keras.Input((8, 8, 3)), L.ReLU()], name="bare")
    with pytest.raises(ModelError, match="round_weights: the model 'bare' has no kernel"):
        tfprune.round_weights(bare, X)
