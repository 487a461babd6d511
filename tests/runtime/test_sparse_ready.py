"""Whether the sparse kernels can run, and what prevents them."""

import re

import keras
import numpy as np
import pytest

from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ConversionError
from tfprune.runtime.sparse_ready import sparse_ready

L = keras.layers


def _net(
    *, sparsity=0.8, stem="valid", middle=None, keepdims=True, channels=3, kernel=3
) -> keras.Model:
    """A stem, a depthwise and two 1×1 convolutions, a pooling and a head."""
    inputs = keras.Input((16, 16, channels))
    h = L.ZeroPadding2D(1)(inputs) if stem == "valid" else inputs
    h = L.ReLU(6.0)(L.Conv2D(8, 3, strides=2, padding=stem, name="stem")(h))
    h = L.DepthwiseConv2D(kernel, padding="same", name="dw")(h)
    h = L.Conv2D(16, 1, activation="relu", name="pw1")(h)
    h = middle(h) if middle else h
    h = L.Conv2D(16, 1, name="pw2")(h)
    h = L.GlobalAveragePooling2D(keepdims=keepdims, name="pool")(h)
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(h)))
    rng = np.random.default_rng(0)
    for name in ("pw1", "pw2"):
        weights = model.get_layer(name).kernel
        zeros = rng.permutation(weights.numpy().size) < sparsity * weights.numpy().size
        weights.assign(np.where(zeros.reshape(weights.shape), 0.0, weights.numpy()))
    return model


@pytest.mark.parametrize("scheme", ["sparse", "sparse_float16"])
def test_a_net_of_the_right_shape_is_ready(scheme):
    artifact = to_tflite(_net(), scheme=scheme)
    found = sparse_ready(artifact)
    assert found.ready, found.reasons
    assert found.pointwise == 2
    # 8×16 and 16×16 weights, of which 103 and 205 are zero.
    assert found.sparsity == pytest.approx((103 + 205) / 384)
    assert "ARM (NEON)" in found.verdict
    assert "x86 with AVX runs it like a dense file" in found.verdict
    assert artifact.report.notes == ("2 of 5 weights are stored sparse", found.verdict)
    assert "DENSIFY" in artifact.report.ops


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"sparsity": 0.6}, "60% of the weights .* more than 67% is needed"),
        ({"stem": "same"}, "no 3×3 convolution with stride 2 on three channels"),
        ({"channels": 4}, "no 3×3 convolution with stride 2 on three channels"),
        ({"keepdims": False}, r"GlobalAveragePooling2D\(keepdims=True\)"),
        ({"kernel": 7}, "a 7×7 depthwise convolution, only 3×3 and 5×5"),
        ({"middle": L.Conv2D(16, 3, padding="same")}, "a 3×3 convolution, only 1×1 is supported"),
        ({"middle": L.Softmax()}, "SOFTMAX .*: no kernel for channels-first data"),
        ({"middle": L.DepthwiseConv2D(3, strides=2, padding="same")}, "not padded by 1 on all"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_the_obstacles_are_named(options, reason):
    found = sparse_ready(to_tflite(_net(**options), scheme="sparse"))
    assert not found.ready
    assert re.search(reason, found.verdict)


def test_a_dense_file_is_not_ready():
    found = sparse_ready(to_tflite(_net()))
    assert found.reasons == ("no weight is stored sparse: convert with scheme 'sparse'",)


def test_sparse_without_zeros_is_refused():
    with pytest.raises(ConversionError, match="no weight has enough zeros"):
        to_tflite(_net(sparsity=0.0), scheme="sparse")
