import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers as kl

import tfprune
from tfprune.errors import FilterError, ModelError
from tfprune.sparsity.masks import prunings_of
from tfprune.sparsity.unit_masks import units_to_close

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def residual_net(norm=None):
    """A stem and a branch that make channels together, an inner width, and a Dense."""
    norm = norm or (lambda: kl.BatchNormalization(beta_initializer="normal"))
    inputs = keras.Input((6, 6, 2))
    x = kl.ReLU()(norm()(kl.Conv2D(8, 3, padding="same", name="stem")(inputs)))
    y = kl.ReLU()(norm()(kl.Conv2D(6, 3, padding="same", name="up")(x)))
    y = norm()(kl.Conv2D(8, 3, padding="same", name="down")(y))
    x = kl.GlobalAveragePooling2D()(kl.Add()([x, y]))
    x = kl.Dense(10, activation="sigmoid", name="hidden")(x)
    return keras.Model(inputs, kl.Dense(3, name="out")(x), name="net")


def encoder():
    inputs = keras.Input((5, 8))
    x = kl.Dense(12, name="embed")(inputs)
    x = kl.LayerNormalization(name="norm")(x + kl.MultiHeadAttention(4, 3, name="mha")(x, x))
    x = x + kl.Dense(12, name="down")(kl.Dense(16, activation="gelu", name="up")(x))
    return keras.Model(inputs, kl.Dense(3, name="out")(kl.GlobalAveragePooling1D()(x)))


def fit(model, epochs=2, **options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, *model.input_shape[1:])).astype("float32")
    model.compile(keras.optimizers.Adam(0.01), LOSS)
    model.fit(x, rng.integers(0, 3, 32), epochs=epochs, batch_size=8, verbose=0, **options)


def removed(report):
    return {change.name: change.before - change.after for change in report.groups}


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.9])
def test_exactly_the_masked_units_are_removed_afterwards(sparsity) -> None:
    model = tfprune.prune(residual_net(), sparsity, pattern="channel")
    fit(model)
    tfprune.strip_pruning(model)
    _, report = tfprune.shrink(model, "zeros")
    assert report.error <= 1e-5
    wanted = {name: size - max(round((1 - sparsity) * size), 1)
              for name, size in (("stem", 8), ("up", 6), ("hidden", 10))}  # fmt: skip
    assert removed(report) == wanted
    assert report.notes == ()


def test_a_closed_channel_is_zero_in_every_weight_that_makes_or_shifts_it() -> None:
    model = tfprune.prune(residual_net(), 0.5, pattern="channel")
    fit(model)
    dead = [
        set(np.flatnonzero(~model.get_layer(name).kernel.numpy().any(axis=(0, 1, 2))).tolist())
        for name in ("stem", "down")
    ]
    assert dead[0] == dead[1]
    assert len(dead[0]) == 4
    place = sorted(dead[0])
    for layer in model.layers:
        if isinstance(layer, kl.BatchNormalization) and layer.gamma.shape == (8,):
            for weight in (layer.gamma, layer.beta):
                assert not weight.numpy()[place].any()
                assert weight.numpy()[[c for c in range(8) if c not in place]].all()
    assert not model.get_layer("down").bias.numpy()[place].any()
    # The consumers' kernels are not touched: what reaches them is zero.
    assert model.get_layer("up").kernel.numpy()[:, :, place, :].any()


@pytest.mark.parametrize(
    ("score", "allocation"),
    [
        ("magnitude", "global"),
        ("magnitude", "erk"),
        ("magnitude", {"stem|down": 0.5}),
        ("random", "uniform"),
        ("taylor", "uniform"),
        ("gradient", "global"),
        ("movement", "uniform"),
    ],
    ids=str,
)
@pytest.mark.slow
def test_every_score_and_allocation(score, allocation) -> None:
    model = residual_net()
    rng = np.random.default_rng(0)
    data = rng.normal(size=(16, 6, 6, 2)).astype("float32"), rng.integers(0, 3, 16)
    tfprune.prune(
        model, 0.5, pattern="channel", score=score, allocation=allocation, data=data, loss=LOSS,
        schedule=tfprune.PolynomialDecay(0.0, 0.5, 0, 6, frequency=2),
    )  # fmt: skip
    fit(model, 3, callbacks=[tfprune.UpdatePruningStep()])
    tfprune.strip_pruning(model)
    _, report = tfprune.shrink(model, "zeros")
    assert report.error <= 1e-5
    total = sum(removed(report).values())
    if isinstance(allocation, dict):
        assert removed(report) == {"stem": 4, "up": 0, "hidden": 0}
    else:
        assert total == pytest.approx(12, abs=1)
    if allocation == "uniform":
        assert removed(report) == {"stem": 4, "up": 3, "hidden": 5}


def test_the_score_of_a_unit_is_the_mean_of_its_kernels_each_by_its_own_measure() -> None:
    model = residual_net()
    stem, down = model.get_layer("stem"), model.get_layer("down")
    for layer, numbers, loud in ((stem, [1, 2, 3, 4, 5, 6, 7, 4], 1), (down, [4] * 8, 1000)):
        kernel = np.ones(layer.kernel.shape) * np.array(numbers) * loud
        layer.set_weights([kernel, np.zeros(8)])
    closing = units_to_close(model, "channel", ("stem",), ())
    scores = [np.abs(kernel.variable.numpy()) for kernel in closing.kernels]
    (share,) = closing.shares(scores)
    np.testing.assert_allclose(share.units, np.sort(np.array([1, 2, 3, 4, 5, 6, 7, 4]) / 8 + 0.5))
    assert share.shape == (3, 3, 2, 8)


def test_heads_of_attention() -> None:
    model = tfprune.prune(encoder(), 0.5, pattern="head")
    fit(model)
    tfprune.strip_pruning(model)
    small, report = tfprune.shrink(model, "zeros")
    assert report.error <= 1e-5
    assert small.get_layer("mha").num_heads == 2
    assert {name for name, count in removed(report).items() if count} == {"mha.num_heads"}


def test_heads_that_share_their_keys() -> None:
    inputs = keras.Input((5, 8))
    x = kl.GroupQueryAttention(3, 4, 2, name="gqa")(inputs, inputs)
    model = keras.Model(inputs, kl.Dense(3)(kl.Flatten()(x)))
    tfprune.prune(model, 0.5, pattern="head")
    fit(model)
    small, report = tfprune.shrink(tfprune.strip_pruning(model), "zeros")
    assert report.error <= 1e-5
    assert small.get_layer("gqa").num_query_heads == 2
    assert small.get_layer("gqa").num_key_value_heads == 1


def test_channels_read_by_a_normalization_over_channels_are_skipped_and_named() -> None:
    model = tfprune.prune(encoder(), 0.5, pattern="channel")
    left = {entry.layer: entry.reason for entry in tfprune.sparsity_of(model).skipped}
    assert "LayerNormalization takes its statistics over these channels" in left["embed"]
    assert left["out"] == "it is an output of the model"
    fit(model)
    _, report = tfprune.shrink(tfprune.strip_pruning(model), "zeros")
    assert report.error <= 1e-5
    gone = {name: count for name, count in removed(report).items() if count}
    assert gone == {"mha.key_dim": 1, "mha.value_dim": 1, "up": 8} or gone == {
        "mha.key_dim": 2, "mha.value_dim": 2, "up": 8}  # fmt: skip


def test_channels_of_a_normalization_without_gamma_are_skipped() -> None:
    model = residual_net(lambda: kl.BatchNormalization(scale=False))
    tfprune.prune(model, 0.5, pattern="channel")
    left = {e.layer: e.reason for e in tfprune.sparsity_of(model).skipped if e.kind != "units"}
    assert "BatchNormalization without gamma" in left["up"]
    with pytest.raises(ModelError, match="strict=True.*up"):
        tfprune.prune(residual_net(lambda: kl.BatchNormalization(scale=False)), 0.5,
                      pattern="channel", strict=True)  # fmt: skip


@pytest.mark.parametrize(
    "make",
    [
        lambda x: kl.LSTM(8, name="made")(kl.Reshape((12, 6))(x)),
        lambda x: kl.GRU(8, name="made")(kl.Reshape((12, 6))(x)),
        lambda x: kl.Flatten()(kl.SeparableConv2D(8, 3, name="made")(x)),
        lambda x: kl.Flatten()(kl.Conv2DTranspose(8, 3, name="made")(x)),
        lambda x: kl.Flatten()(kl.DepthwiseConv2D(3)(kl.Conv2D(8, 3, name="made")(x))),
        lambda x: kl.Flatten()(kl.Concatenate()([kl.Conv2D(8, 3, name="made")(x)] * 2)),
        lambda x: kl.Flatten()(kl.PReLU(shared_axes=[1, 2])(kl.Conv2D(8, 1, name="made")(x))),
    ],
)
def test_units_of_many_kinds(make) -> None:
    inputs = keras.Input((6, 6, 2))
    model = keras.Model(inputs, kl.Dense(3, name="out")(make(inputs)))
    tfprune.prune(model, 0.5, pattern="channel", only="made")
    fit(model)
    _, report = tfprune.shrink(tfprune.strip_pruning(model), "zeros")
    assert report.error <= 1e-5
    assert removed(report)["made"] == 4


def test_no_axis_is_emptied() -> None:
    """Both halves are used apart: a half must not lose all its units though the other has some."""
    inputs = keras.Input((6,))
    x = kl.Dense(8, name="made")(inputs)
    left, right = keras.ops.split(x, 2, axis=-1)
    x = kl.Concatenate()([kl.Dense(5)(left), kl.Dense(4)(right)])
    model = keras.Model(inputs, kl.Dense(3)(x))
    kernel, bias = model.get_layer("made").get_weights()
    kernel[:, :4] *= 1e-3
    model.get_layer("made").set_weights([kernel, bias])
    tfprune.prune(model, 0.5, pattern="channel", only="made")
    fit(model)
    _, report = tfprune.shrink(tfprune.strip_pruning(model), "zeros")
    assert report.error <= 1e-5
    assert removed(report)["made"] == 3
    assert not any("one unit of" in note for note in report.notes)


def test_a_pattern_that_finds_no_units_is_an_error() -> None:
    with pytest.raises(ModelError, match="pattern 'head' finds no units to close in model 'net'"):
        tfprune.prune(residual_net(), 0.5, pattern="head")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, kl.Dense(3, name="out")(inputs), name="bare")
    with pytest.raises(ModelError, match="finds no units.*out: it is an output of the model"):
        tfprune.prune(model, 0.5, pattern="channel")
    with pytest.raises(FilterError, match="only: 'stemm' matches nothing.*Did you mean stem"):
        tfprune.prune(residual_net(), 0.5, pattern="channel", only="stemm")
    with pytest.raises(FilterError, match="skip: 'out' cannot be cut: it is an output"):
        tfprune.prune(residual_net(), 0.5, pattern="channel", skip="out")


@settings(
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["conv", "bn", "relu", "residual", "concat", "depthwise", "excite"]),
            st.sampled_from([4, 6, 8]),
        ),
        min_size=2,
        max_size=6,
    ),
    sparsity=st.sampled_from([0.3, 0.5, 0.8]),
    allocation=st.sampled_from(["uniform", "global"]),
)
def test_masked_units_are_removed_from_any_graph(steps, sparsity, allocation) -> None:
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(len(steps))
    inputs = keras.Input((4, 4, 3))
    x = kl.Conv2D(8, 1)(inputs)
    for kind, width in steps:
        size = x.shape[-1]
        if kind == "conv":
            x = kl.Conv2D(width, 3, padding="same", bias_initializer="normal")(x)
        elif kind == "bn":
            x = kl.BatchNormalization(
                beta_initializer="normal", moving_mean_initializer="normal"
            )(x)  # fmt: skip
        elif kind == "relu":
            x = kl.ReLU()(x)
        elif kind == "residual":
            x = x + kl.Conv2D(size, 3, padding="same", bias_initializer="normal")(x)
        elif kind == "concat":
            x = kl.Concatenate()([x, kl.Conv2D(width, 1)(x)])
        elif kind == "depthwise":
            x = kl.DepthwiseConv2D(3, padding="same", bias_initializer="normal")(x)
        elif kind == "excite":
            s = kl.Dense(size, activation="sigmoid")(kl.GlobalAveragePooling2D()(x))
            x = x * kl.Reshape((1, 1, size))(s)
    model = keras.Model(inputs, kl.Dense(3)(kl.Flatten()(x)))
    tfprune.prune(model, sparsity, pattern="channel", allocation=allocation)
    closing = prunings_of(model)[0].joint
    weights = [np.abs(kernel.variable.numpy()) for kernel in closing.kernels]
    held = {share.path: int((share.units == 0).sum()) for share in closing.shares(weights)}
    tfprune.strip_pruning(model)
    _, report = tfprune.shrink(model, "zeros")
    assert report.error <= 1e-5
    assert {name: removed(report)[name] for name in held} == held
