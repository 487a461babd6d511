"""Random graphs of common layers: any cut is verified."""

import keras
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers as kl
from keras import ops

import tfprune
from tfprune.errors import OptionError

WIDTHS = st.sampled_from([4, 6, 8, 12])
# fmt: off
KINDS = (
    "conv", "depthwise", "grouped", "bn", "relu", "residual", "concat", "twice", "split", "slice",
    "shuffle", "excite", "pool", "reshape", "mean", "constant", "shared", "separable",
    "transposed", "generator", "vector", "nested", "prelu", "norm",
)
# fmt: on
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), WIDTHS), min_size=2, max_size=6)
CALM = settings(
    max_examples=12,
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
        elif kind == "separable":
            x = kl.SeparableConv2D(width, 3, padding="same", depth_multiplier=2)(x)
        elif kind == "transposed":
            x = kl.Conv2DTranspose(width, 3, padding="same")(x)
        elif kind == "generator":
            x = kl.Reshape((4, 4, width))(kl.Dense(16 * width)(kl.GlobalMaxPooling2D()(x)))
        elif kind == "vector":
            x = x + kl.Dense(size)(kl.GlobalAveragePooling2D()(x))[:, None, None]
        elif kind == "nested":
            inner = keras.Sequential([keras.Input((4, 4, size)), kl.Conv2D(size, 1), kl.ReLU()])
            x = inner(x) + inner(inner(x))
        elif kind == "prelu":
            x = kl.PReLU(shared_axes=[1, 2], alpha_initializer="uniform")(x)
        elif kind == "norm":
            x = kl.GroupNormalization(2)(x) if size % 2 == 0 else kl.LayerNormalization()(x)
    return keras.Model(inputs, kl.Dense(3)(kl.Flatten()(x)))


@CALM
@given(steps=STEPS, share=st.sampled_from([0.8, 0.5, 0.3]), seed=st.integers(0, 3))
def test_any_cut_is_verified(steps, share, seed) -> None:
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    small, report = tfprune.shrink(
        grow(steps), {"channels": share}, importance="random", round_to=1, seed=seed
    )
    assert report.error <= 1e-4
    assert report.exact or "norm" in [kind for kind, _ in steps]
    assert small.count_params() == report.after.params


TEXT_KINDS = (
    "dense", "lstm", "gru", "both", "sum", "attend", "cross", "grouped", "residual", "norm",
    "concat", "shared", "stack", "over time",
)  # fmt: skip
TEXT_STEPS = st.lists(st.tuples(st.sampled_from(TEXT_KINDS), WIDTHS), min_size=1, max_size=4)


def write(steps) -> keras.Model:
    """A model of sequences of these steps, each on what the one before gave."""
    ids = keras.Input((5,), dtype="int32")
    first = x = kl.Embedding(11, 8)(ids)
    for kind, width in steps:
        size = x.shape[-1]
        if kind == "dense":
            x = kl.Dense(width, activation="gelu")(x)
        elif kind == "lstm":
            x = kl.LSTM(width, return_sequences=True)(x)
        elif kind == "gru":
            x = kl.GRU(width, return_sequences=True)(x)
        elif kind in ("both", "sum"):
            mode = "concat" if kind == "both" else "sum"
            x = kl.Bidirectional(kl.LSTM(width, return_sequences=True), merge_mode=mode)(x)
        elif kind == "attend":
            x = x + kl.MultiHeadAttention(2, width, value_dim=width - 1)(x, x)
        elif kind == "cross":
            x = kl.MultiHeadAttention(2, width, value_dim=width + 1)(x, first)
        elif kind == "grouped":
            x = x + kl.GroupQueryAttention(width // 2, 4, 2)(x, x)
        elif kind == "residual":
            x = x + kl.Dense(size)(kl.Dense(width, activation="relu")(x))
        elif kind == "norm":
            x = kl.LayerNormalization()(x)
        elif kind == "concat":
            x = kl.Concatenate()([x, kl.Dense(width)(first), x])
        elif kind == "shared":
            layer = kl.TimeDistributed(kl.Dense(size))
            x = layer(layer(x))
        elif kind == "stack":
            x = kl.RNN([kl.GRUCell(width), kl.LSTMCell(size)], return_sequences=True)(x)
        elif kind == "over time":
            frame = keras.Input((size,))
            y = kl.Dense(width)(frame)
            y = kl.Concatenate()([y * ops.sigmoid(y), kl.Dense(width // 2)(frame)])
            x = kl.TimeDistributed(keras.Model(frame, kl.BatchNormalization()(y)))(x)
    return keras.Model(ids, kl.Dense(3)(x))


@CALM
@given(steps=TEXT_STEPS, share=st.sampled_from([0.8, 0.5, 0.3]), seed=st.integers(0, 3))
def test_any_cut_of_sequences_is_verified(steps, share, seed) -> None:
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    small, report = tfprune.shrink(
        write(steps), {"channels": share}, importance="random", round_to=1, seed=seed
    )
    assert report.error <= 1e-4
    assert report.exact or "norm" in [kind for kind, _ in steps]
    assert small.count_params() == report.after.params


@CALM
@given(steps=STEPS, share=st.sampled_from([0.8, 0.5, 0.3]), seed=st.integers(0, 3))
def test_any_cut_inside_a_time_distributed_model_is_verified(steps, share, seed) -> None:
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    frames = keras.Input((2, 4, 4, 3))
    x = kl.TimeDistributed(grow(steps), name="frames")(frames)
    model = keras.Model(frames, kl.Dense(2)(kl.GRU(4, name="gru")(x)))
    small, report = tfprune.shrink(
        model, {"channels": share}, importance="random", round_to=1, seed=seed
    )
    assert report.error <= 1e-4
    assert report.exact or "norm" in [kind for kind, _ in steps]
    assert small.count_params() == report.after.params


@CALM
@given(steps=STEPS, round_to=st.sampled_from([1, 4, 8]))
def test_a_smaller_target_never_keeps_more(steps, round_to) -> None:
    """Asked for less and less, a model never grows, and no tensor of it is ever emptied."""
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    model = grow(steps)
    left = []
    for share in (1.0, 0.8, 0.6, 0.4, 0.2, 0.05, 0.001):
        try:
            _, report = tfprune.shrink(
                model,
                {"channels": share},
                ranking="uniform",
                round_to=round_to,
                cap=1.0,
                verify=False,
            )
        except OptionError as error:
            assert "none of" in str(error)  # noqa: PT017 - so near to all that nothing can go
            left.append(model.count_params())
            continue
        assert all(change.after >= 1 for change in report.groups)
        left.append(report.after.params)
    assert left == sorted(left, reverse=True)


@CALM
@given(steps=STEPS)
def test_a_target_of_everything_changes_nothing(steps) -> None:
    keras.backend.clear_session(free_memory=False)
    model = grow(steps)
    small, report = tfprune.shrink(model, {"params": 1.0}, verify=False)
    data = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(small(data), model(data))
    assert report.plan.removals == ()


@CALM
@given(order=st.permutations(range(8)), importance=st.sampled_from(["l1", "l2", "fpgm", "lamp"]))
def test_a_permutation_of_the_channels_permutes_the_choice(order, importance) -> None:
    keras.backend.clear_session(free_memory=False)
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
