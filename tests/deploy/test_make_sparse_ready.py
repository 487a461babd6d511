"""Stock mobile nets rewritten for the sparse kernels."""

import keras
import numpy as np
import pytest

from tfprune.deploy.make_sparse_ready import make_sparse_ready
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ModelError
from tfprune.runtime.sparse_ready import sparse_ready

L = keras.layers


def _prune_pointwise(model: keras.Model, sparsity: float) -> None:
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if type(layer) is L.Conv2D and layer.kernel_size == (1, 1):
            kernel = layer.kernel.numpy()
            keep = rng.permutation(kernel.size) >= sparsity * kernel.size
            layer.kernel.assign(kernel * keep.reshape(kernel.shape))


def _depthwise_net(size: int, *, kernel: int = 3, pad: bool = False) -> keras.Model:
    inputs = keras.Input((size, size, 4))
    h = L.ZeroPadding2D(((0, 1), (0, 1)))(inputs) if pad else inputs
    h = L.DepthwiseConv2D(kernel, strides=2, padding="valid" if pad else "same", name="dw")(h)
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D(name="pool")(L.ReLU()(h))))


@pytest.mark.parametrize(
    "model",
    [
        _depthwise_net(8),
        _depthwise_net(9),
        _depthwise_net(8, pad=True),
        _depthwise_net(9, kernel=5),
    ],
    ids=["same, even", "same, odd", "padded, even", "5×5, odd"],
)
def test_depthwise_strides_are_rewritten_exactly(model):
    x = np.random.default_rng(0).normal(size=(3, *model.inputs[0].shape[1:])).astype("float32")
    rewritten, changes = make_sparse_ready(model)
    np.testing.assert_allclose(rewritten(x), model(x), atol=1e-5)
    assert [note.partition(":")[0] for note in changes.exact] == ["dw", "pool"]
    assert changes.tune == ()
    assert rewritten.get_layer("dw").padding == "valid"


def test_a_padding_before_a_padded_stride_stays():
    inputs = keras.Input((8, 8, 4))
    padded = L.ZeroPadding2D(3)(inputs)
    model = keras.Model(inputs, L.DepthwiseConv2D(3, strides=2, padding="same")(padded))
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype("float32")
    np.testing.assert_allclose(make_sparse_ready(model)[0](x), model(x), atol=1e-5)


def test_a_layer_that_is_called_twice_is_left_as_it_is():
    inputs = keras.Input((8, 8, 4))
    pool, shared = L.GlobalAveragePooling2D(), L.Conv2D(4, 3, strides=2, padding="same")
    model = keras.Model(inputs, L.Concatenate()([pool(inputs), pool(shared(shared(inputs)))]))
    x = np.random.default_rng(0).normal(size=(3, 8, 8, 4)).astype("float32")
    rewritten, changes = make_sparse_ready(model)
    np.testing.assert_allclose(rewritten(x), model(x), atol=1e-5)
    assert (changes.exact, changes.tune) == ((), ())


def test_what_moves_by_a_pixel_is_said():
    model = _depthwise_net(8, kernel=5)
    rewritten, changes = make_sparse_ready(model)
    assert changes.tune == (
        "dw: padded by 2 on all sides, shifted by one pixel to the left and up",
    )
    assert rewritten.output_shape == model.output_shape


def test_masks_go_along():
    class Mask(keras.constraints.Constraint):
        def __call__(self, w):
            return w

    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, L.Conv2D(4, 1, name="pw")(inputs))
    mask = model.get_layer("pw").kernel.constraint = Mask()
    assert make_sparse_ready(model)[0].get_layer("pw").kernel.constraint is mask


@pytest.mark.slow
def test_a_stock_mobilenet_becomes_ready():
    model = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None, classes=5)
    _prune_pointwise(model, 0.8)
    before = sparse_ready(to_tflite(model, scheme="sparse"))
    assert not before.ready
    assert any("padded by 1 on all sides" in reason for reason in before.reasons)

    rewritten, changes = make_sparse_ready(model)
    artifact = to_tflite(rewritten, scheme="sparse")
    after = sparse_ready(artifact)
    assert after.ready, after.reasons
    # 17 blocks: 16 expansions and 17 projections, and the last convolution.
    assert after.pointwise == 34
    assert after.sparsity == pytest.approx(0.8, abs=0.01)
    assert len(changes.tune) == 1
    assert after.verdict in artifact.report.notes


@pytest.mark.slow
def test_the_other_mobilenets_become_ready_also_in_a_model():
    def nested(inner):
        head = [L.GlobalAveragePooling2D(), L.Dense(3)]
        model = keras.Sequential([keras.Input((64, 64, 3)), inner, *head])
        _prune_pointwise(inner, 0.8)
        return sparse_ready(to_tflite(make_sparse_ready(model)[0], scheme="sparse"))

    def third(**options):
        return keras.applications.MobileNetV3Small(
            (64, 64, 3), weights=None, include_top=False, **options
        )

    ready = nested(third(minimalistic=True))
    assert ready.ready, ready.reasons
    # Squeeze and excite multiplies by what the runtime's sparse kernels do not take.
    refused = nested(third())
    assert not refused.ready
    assert all("squeeze_excite_mul" in reason for reason in refused.reasons)


def test_a_model_in_a_model_is_unrolled():
    inner = keras.applications.MobileNet(
        input_shape=(32, 32, 3), alpha=0.25, include_top=False, weights=None
    )
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), inner, L.GlobalAveragePooling2D(), L.Dense(3, name="head")]
    )
    plain, changes = make_sparse_ready(model)
    assert len(changes.exact) == 5
    assert plain.get_layer("conv_dw_2").kernel_size == (5, 5)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    tuned = [line.partition(":")[0] for line in changes.tune]
    assert tuned == ["conv1"]
    assert np.shape(plain(x)) == np.shape(model(x))


def test_what_is_no_model_is_refused():
    with pytest.raises(ModelError, match="Received str"):
        make_sparse_ready("model")
