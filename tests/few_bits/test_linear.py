"""Oracle: the rows times the matrices, and the bias, are what the layer itself gives."""

from typing import Any

import keras
import numpy as np
import pytest

from tfprune.few_bits.linear import Linear, read_linear, roundable_kernels
from tfprune.graph.kernels import find_kernels

L = keras.layers

CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "dense": (lambda: L.Dense(5), (7,)),
    "dense on a sequence": (lambda: L.Dense(5, use_bias=False), (3, 7)),
    "conv1d causal, dilated": (lambda: L.Conv1D(4, 3, padding="causal", dilation_rate=2), (9, 6)),
    "conv1d strided": (lambda: L.Conv1D(4, 3, strides=2, padding="same"), (10, 6)),
    "conv2d same": (lambda: L.Conv2D(4, (3, 2), padding="same"), (6, 5, 3)),
    "conv2d same, strided": (lambda: L.Conv2D(4, 3, padding="same", strides=2), (7, 6, 3)),
    "conv2d valid, dilated": (lambda: L.Conv2D(4, 3, dilation_rate=2), (8, 7, 3)),
    "conv2d in groups": (lambda: L.Conv2D(6, 3, groups=3, padding="same"), (5, 5, 9)),
    "conv3d": (lambda: L.Conv3D(4, 2, strides=2), (5, 4, 4, 3)),
    "separable1d": (lambda: L.SeparableConv1D(4, 3, depth_multiplier=2), (8, 3)),
    "separable2d": (lambda: L.SeparableConv2D(4, 3, padding="same", strides=2), (6, 6, 3)),
    "depthwise1d": (lambda: L.DepthwiseConv1D(3, padding="same", strides=2), (9, 4)),
    "depthwise2d": (lambda: L.DepthwiseConv2D(3, depth_multiplier=2, strides=2), (7, 8, 3)),
    "heads made": (lambda: L.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), (4, 6)),
    "heads joined": (lambda: L.EinsumDense("abcd,cde->abe", (None, 5), bias_axes="e"), (4, 2, 3)),
    "joined in another order": (lambda: L.EinsumDense("abcd,dce->abe", (None, 5)), (4, 2, 3)),
    "a product a head": (
        lambda: L.EinsumDense("abcd,cde->abce", (None, 2, 5), bias_axes="ce"),
        (4, 2, 3),
    ),
    "any number of axes": (lambda: L.EinsumDense("...x,xy->...y", (5,), bias_axes="y"), (4, 2, 3)),
    "bias in another order": (
        lambda: L.EinsumDense("abc,cde->abed", (None, 3, 2), bias_axes="ed"),
        (4, 6),
    ),
}


def built(layer: Any, shape: tuple[int, ...]) -> tuple[Linear, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, *shape)).astype("float32")
    layer(x)
    layer.set_weights([rng.standard_normal(w.shape) for w in layer.get_weights()])
    (kernel,), _ = roundable_kernels([layer])
    linear = read_linear(kernel)
    assert isinstance(linear, Linear)
    return linear, x


def products(linear: Linear, x: np.ndarray) -> np.ndarray:
    rows = linear.rows(x, 10**6, np.random.default_rng(0))
    weights = linear.kernel.variable.value.numpy()
    return rows @ linear.matrices(linear.kernel.view(weights))


@pytest.mark.parametrize("name", CASES)
def test_the_products_are_the_layers(name: str) -> None:
    make, shape = CASES[name]
    layer = make()
    linear, x = built(layer, shape)
    if linear.bias is not None:
        # Every bias of one output is found by moving it: the products themselves have none.
        linear.bias.assign(np.zeros(linear.bias.shape))
    y = layer(x).numpy()
    mine = products(linear, x)
    assert np.isclose(np.sum(mine**2), np.sum(y**2), rtol=1e-4)
    assert np.allclose(np.sort(mine.ravel()), np.sort(y.ravel()), atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_a_shift_of_the_bias_moves_the_outputs_it_is_for(name: str) -> None:
    make, shape = CASES[name]
    layer = make()
    linear, x = built(layer, shape)
    mine = products(linear, x)
    if linear.bias is None:
        assert layer.bias is None
        return
    linear.bias.assign(np.zeros(linear.bias.shape))
    # Take the mean of each output away: then every output of the layer is of mean zero.
    shift = -mine.mean(axis=1)
    linear.bias.assign(linear.shifted_bias(shift))
    y = layer(x).numpy()
    centered = mine + shift[:, None, :]
    assert np.allclose(np.sort(centered.ravel()), np.sort(y.ravel()), atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_view_undoes_matrices(name: str) -> None:
    make, shape = CASES[name]
    linear, _ = built(make(), shape)
    view = linear.kernel.view(linear.kernel.variable.value.numpy())
    assert np.array_equal(linear.view(linear.matrices(view)), view)


class Scaled(L.Dense):
    def call(self, inputs: Any) -> Any:
        return 2 * super().call(inputs)


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (Scaled(3), (4,), "overrides call"),
        (L.Conv2DTranspose(3, 2), (4, 4, 2), "no rule for the products of a keras.Conv2DTranspose"),
        (L.LSTM(3), (4, 2), "no rule for the products of a keras.LSTMCell"),
        (L.EinsumDense("abc,cd->ad", (3,)), (4, 2), "sums over an axis that the kernel does not"),
    ],
)
def test_an_unknown_layer_has_a_reason(layer: Any, shape: tuple[int, ...], reason: str) -> None:
    layer(np.ones((2, *shape), "float32"))
    kernels, _ = find_kernels([layer])
    for kernel in kernels:
        assert reason in str(read_linear(kernel))


def test_a_bias_along_the_sequence_is_not_changed() -> None:
    layer = L.EinsumDense("abc,cd->abd", (4, 5), bias_axes="bd")
    linear, _ = built(layer, (4, 6))
    assert linear.bias is None
