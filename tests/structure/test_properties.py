"""Random graphs of the pieces that users build with: whatever is cut, the proof holds."""

import keras
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers as kl
from keras import ops

import tfprune

WIDTHS = st.sampled_from([4, 6, 8, 12])
# fmt: off
KINDS = (
    "conv", "depthwise", "grouped", "bn", "relu", "residual", "concat", "twice", "split", "slice",
    "shuffle", "excite", "pool", "reshape", "mean", "constant", "shared",
)
# fmt: on
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), WIDTHS), min_size=2, max_size=6)
CALM = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def grow(steps) -> keras.Model:
    """A model of these steps, each on what the one before gave."""
    inputs = keras.Input((4, 4, 3))
    x = kl.Conv2D(8, 1)(inputs)
    for kind, width in steps:
        size = x.shape[-1]
        if kind == "conv":
            x = kl.Conv2D(width, 3, padding="same")(x)
        elif kind == "depthwise":
            x = kl.DepthwiseConv2D(3, padding="same", depth_multiplier=1 + width % 2)(x)
        elif kind == "grouped":
            x = kl.Conv2D(width, 1, groups=2)(x) if size % 2 == 0 else x
        elif kind == "bn":
            x = kl.BatchNormalization()(x)
        elif kind == "relu":
            x = kl.ReLU()(x)
        elif kind == "residual":
            x = x + kl.Conv2D(size, 3, padding="same")(x)
        elif kind == "concat":
            x = kl.Concatenate()([x, kl.Conv2D(width, 1)(x)])
        elif kind == "twice":
            x = kl.Concatenate()([x, x])
        elif kind == "split":
            left, right = ops.split(x, [size // 2], axis=-1)
            x = kl.Concatenate()([right, kl.Conv2D(width, 1)(left)])
        elif kind == "slice":
            x = x[..., 1:]
        elif kind == "shuffle" and size % 2 == 0:
            y = kl.Reshape((4, 4, 2, size // 2))(x)
            x = kl.Reshape((4, 4, size))(kl.Permute((1, 2, 4, 3))(y))
        elif kind == "excite":
            s = kl.Dense(size, activation="sigmoid")(kl.GlobalAveragePooling2D()(x))
            x = x * kl.Reshape((1, 1, size))(s)
        elif kind == "pool":
            x = kl.MaxPooling2D(3, strides=1, padding="same")(x)
        elif kind == "reshape":
            x = kl.Reshape((4, 4, size))(kl.Flatten()(x))
        elif kind == "mean":
            x = x - ops.mean(x, axis=(1, 2), keepdims=True)
        elif kind == "constant":
            x = x * np.linspace(0.5, 1.5, size).astype("float32")
        elif kind == "shared":
            layer = kl.Conv2D(size, 1)
            x = layer(layer(x))
    return keras.Model(inputs, kl.Dense(3)(kl.Flatten()(x)))


@CALM
@given(steps=STEPS, share=st.sampled_from([0.8, 0.5, 0.3]), seed=st.integers(0, 3))
def test_whatever_is_cut_the_proof_holds(steps, share, seed) -> None:
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    small, report = tfprune.shrink(
        grow(steps), {"channels": share}, importance="random", round_to=1, seed=seed
    )
    assert report.error <= 1e-4
    assert report.exact
    assert small.count_params() == report.after.params


@CALM
@given(steps=STEPS)
def test_nothing_asked_is_nothing_done(steps) -> None:
    keras.backend.clear_session()
    model = grow(steps)
    small, report = tfprune.shrink(model, {"params": 1.0}, verify=False)
    data = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(small(data), model(data))
    assert report.plan.removals == ()


@CALM
@given(order=st.permutations(range(8)), importance=st.sampled_from(["l1", "l2", "fpgm", "lamp"]))
def test_a_permutation_of_the_channels_permutes_the_choice(order, importance) -> None:
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    plain = grow([("bn", 4), ("conv", 6)])
    mixed = keras.models.clone_model(plain)
    conv, norm, after = [layer for layer in plain.layers if layer.weights][:3]
    mixed.set_weights(plain.get_weights())
    order = list(order)
    target = [layer for layer in mixed.layers if layer.weights][:3]
    kernel, bias = conv.get_weights()
    target[0].set_weights([kernel[..., order], bias[order]])
    target[1].set_weights([weight[order] for weight in norm.get_weights()])
    kernel, bias = after.get_weights()
    target[2].set_weights([kernel[:, :, order], bias])
    options = {"importance": importance, "round_to": 1, "only": conv.name, "verify": False}
    gone = [
        tfprune.shrink(model, {"channels": 0.6}, **options)[1].plan.removals[0].positions
        for model in (plain, mixed)
    ]
    assert sorted(order[position] for position in gone[1]) == list(gone[0])
