"""What each importance measures, on weights checked by eye."""

import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import DataError, OptionError
from tfprune.graph.rebuild import read_weights
from tfprune.structure.groups.units import units
from tfprune.structure.select.importance import UnitEvidence, score_units

RNG = np.random.default_rng(0)
DATA = (RNG.normal(size=(40, 4)).astype("float32"), RNG.integers(0, 2, 40))


def net():
    inputs = keras.Input((4,))
    x = kl.Dense(3, name="a", activation="relu")(inputs)
    x = kl.BatchNormalization(name="bn")(x)
    model = keras.Model(inputs, kl.Dense(2, name="b")(x))
    model.get_layer("a").set_weights(
        [np.array([[1, 2, 0], [1, 0, 0], [1, 0, 3], [1, 0, 0]], "float32"), np.zeros(3, "float32")]
    )
    model.get_layer("b").set_weights([np.array([[1, 1], [3, 4], [0, 0]], "float32"), np.zeros(2)])
    return model


def evidence(model, **options):
    found = units(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    options = {"data": DATA, "loss": loss, **options}
    return UnitEvidence(found, read_weights(found.graph), **options)


def scores(importance, model=None, **options):
    given = evidence(model or net(), **options)
    return score_units(importance, given)[given.found[0].units]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("l1", [4 + 2, 2 + 7, 3]),
        ("l2", [2 + np.sqrt(2), 2 + 5, 3]),
        ("lamp", [6 / 44, 1.0, 9 / 53]),
        ("bn_scale", [1, 1, 1]),
    ],
)
def test_importances_of_weights_match_their_definition(name, expected) -> None:
    got = scores(name)
    if name == "lamp":
        # Squares are 4+2, 4+25 and 9: each over the sum of all that are no smaller.
        expected = [6 / 44, 29 / 29, 9 / 38]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_fpgm_is_the_sum_of_distances_to_the_other_filters() -> None:
    kernel = net().get_layer("a").get_weights()[0].T
    expected = [sum(np.linalg.norm(a - b) for b in kernel) for a in kernel]
    np.testing.assert_allclose(scores("fpgm"), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["taylor", "hessian", "activation"])
def test_all_batches_count_and_not_only_the_last(name: str) -> None:
    x, y = DATA
    both, last = scores(name), scores(name, data=[(x[32:], y[32:])])
    first = scores(name, data=[(x[:32], y[:32])])
    assert not np.allclose(both, last)
    if name == "taylor":
        np.testing.assert_allclose(both, np.sqrt((32 * first**2 + 8 * last**2) / 40), rtol=1e-4)
    else:
        np.testing.assert_allclose(both, (32 * first + 8 * last) / 40, rtol=1e-4)


@pytest.mark.parametrize("name", ["taylor", "hessian"])
def test_weights_of_samples_count(name: str) -> None:
    x, y = DATA
    heavy = scores(name, data=(x[:8], y[:8], np.full(8, 2.0, "float32")))
    plain = scores(name, data=(x[:8], y[:8]))
    np.testing.assert_allclose(heavy, plain * (2 if name == "taylor" else 4), rtol=1e-4)


def test_taylor_is_weight_times_gradient() -> None:
    model = net()
    x, y = DATA[0][:8], DATA[1][:8]
    got = scores("taylor", model, data=[(x, y)])
    kernel = model.get_layer("a").kernel
    base = kernel.numpy()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    slopes = []
    for unit in range(3):
        values = []
        for step in (1e-3, -1e-3):
            changed = base.copy()
            changed[:, unit] *= 1 + step
            kernel.assign(changed)
            values.append(float(loss(y, model(x, training=False))))
        slopes.append(abs(values[0] - values[1]) / 2e-3)
    kernel.assign(base)
    np.testing.assert_allclose(got, slopes, atol=2e-3)


def test_taylor_is_the_slope_of_the_loss_along_all_outputs_of_a_unit() -> None:
    """This includes what a BatchNormalization adds, not only the kernel before it."""
    inputs = keras.Input((4,))
    x = kl.Dense(3, name="a")(inputs)
    x = kl.ReLU()(kl.BatchNormalization(name="bn")(x))
    gate = tfprune.layers.ChannelGate(name="gate")
    x = gate(x)
    model = keras.Model(inputs, kl.Add()([kl.Dense(2, name="b")(x), kl.Dense(2, name="c")(x)]))
    rng = np.random.default_rng(3)
    model.get_layer("bn").set_weights([rng.uniform(0.5, 2, 3) for _ in range(4)])
    x, y = DATA[0][:8], DATA[1][:8]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    slopes = []
    for unit in range(3):
        values = []
        for step in (1e-2, -1e-2):
            gate.gate.assign(np.ones(3) + step * np.eye(3)[unit])
            values.append(float(loss(y, model(x, training=False))))
        slopes.append(abs(values[0] - values[1]) / 2e-2)
    gate.gate.assign(np.ones(3))
    got = scores("taylor", model, data=[(x, y)])
    np.testing.assert_allclose(got, slopes, rtol=0.02, atol=1e-3)


def test_attention_that_no_weights_use_is_scored_by_the_weights_that_make_it() -> None:
    inputs = keras.Input((5, 8))
    x = kl.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    model = keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling1D()(x)))
    data = [(RNG.normal(size=(8, 5, 8)).astype("float32"), DATA[1][:8])]
    given = evidence(model, data=data)
    for name in ("taylor", "hessian"):
        found = score_units(name, given)
        for group in given.found.groups:
            assert (found[group.units] > 0).all(), group


@pytest.mark.parametrize("name", ["taylor", "hessian"])
def test_importances_by_gradient_work_in_depthwise_networks(name: str) -> None:
    """Every group loses its share, also those that depthwise layers go along with."""
    x = inputs = keras.Input((8, 8, 3))
    for width in (8, 16):
        x = kl.ReLU()(kl.BatchNormalization()(kl.Conv2D(width, 1, name=f"c{width}")(x)))
        x = kl.ReLU()(kl.BatchNormalization()(kl.DepthwiseConv2D(3)(x)))
    model = keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(x)))
    images = RNG.normal(size=(40, 8, 8, 3)).astype("float32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    small, report = tfprune.shrink(
        model, {"channels": 0.5}, importance=name, data=(images, DATA[1]), loss=loss,
        ranking="uniform", round_to=1,
    )  # fmt: skip
    assert report.error <= 1e-4
    assert [small.get_layer(f"c{width}").filters for width in (8, 16)] == [4, 8]


def test_a_custom_function_gets_positions_as_the_first_axis() -> None:
    shapes = []

    def largest(rows):
        shapes.append(rows.shape)
        return np.abs(rows).max(axis=1)

    np.testing.assert_allclose(scores(largest), [1 + 1, 2 + 4, 3])
    assert (3, 4) in shapes
    with pytest.raises(OptionError, match="one number for each of 3 positions"):
        scores(lambda rows: np.zeros(7))
    with pytest.raises(OptionError, match="must return numbers. Received 'large'"):
        scores(lambda rows: "large")
    with pytest.raises(OptionError, match="infinite"):
        scores(lambda rows: np.full(len(rows), np.inf))


def test_units_without_an_importance_are_kept_and_named() -> None:
    inputs = keras.Input((4,))
    x = kl.Dense(8, name="plain")(inputs)
    x = kl.BatchNormalization(gamma_initializer="uniform")(kl.Dense(8, name="normed")(x))
    model = keras.Model(inputs, kl.Dense(2)(x))
    small, report = tfprune.shrink(model, {"channels": 0.75}, importance="bn_scale", round_to=1)
    assert small.get_layer("plain").units == 8
    assert small.get_layer("normed").units < 8
    assert any("plain kept whole" in note for note in report.notes)


def test_labels_losses_and_finite_gradients_are_needed() -> None:
    with pytest.raises(DataError, match="needs labels"):
        scores("taylor", data=DATA[0])
    with pytest.raises(DataError, match="needs loss="):
        scores("taylor", loss=None)
    with pytest.raises(DataError, match="data= holds NaN or infinity"):
        scores("taylor", data=(DATA[0] * np.nan, DATA[1]))
    with pytest.raises(DataError, match="gradients that are not finite"):
        scores("taylor", loss=lambda labels, outputs: keras.ops.mean(outputs) * np.inf)
