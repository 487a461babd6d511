import keras
import numpy as np
from keras import layers as kl

from tfprune.graph.rebuild import read_weights
from tfprune.structure.groups.units import units
from tfprune.structure.proof.inputs import Statistics, random_inputs, varied


def test_inputs_have_the_types_that_the_model_reads() -> None:
    ids, mask = keras.Input((5,), dtype="int32"), keras.Input((5,), dtype="bool")
    plain = keras.Input((None, 2))
    x = kl.Concatenate()([kl.Embedding(7, 3)(ids), plain])
    model = keras.Model([ids, mask, plain], kl.LSTM(4)(x, mask=mask))
    a, b, c = random_inputs(units(model), np.random.default_rng(0), [(5,), (5,), (5, 2)])
    assert a.max() < 7
    assert b.dtype == bool
    assert c.shape == (2, 5, 2)


def shapes(model) -> list[tuple]:
    return [x.shape for x in random_inputs(units(model), np.random.default_rng(0), None)]


def test_small_inputs_normalized_over_the_batch_have_more_than_two_samples() -> None:
    def net(size, *more):
        return keras.Sequential(
            [keras.Input((size, size, 3)), kl.Conv2D(4, 3), *more, kl.Flatten(), kl.Dense(2)]
        )

    assert shapes(net(8)) == [(2, 8, 8, 3)]
    assert shapes(net(8, kl.BatchNormalization())) == [(8, 8, 8, 3)]
    assert shapes(net(64, kl.BatchNormalization())) == [(2, 64, 64, 3)]
    fixed = keras.Sequential(
        [keras.Input(batch_shape=(3, 4)), kl.Dense(5), kl.BatchNormalization()]
    )
    fixed.add(kl.Dense(2))
    assert shapes(fixed) == [(3, 4)]


def test_only_constant_weights_are_replaced_by_random_numbers() -> None:
    alike, trained = np.ones(5, "float32"), np.array([1, 2, 1], "float32")
    count, single = np.zeros(3, "int32"), np.ones(1, "float32")
    (made,) = varied({0: [alike, trained, count, single]}, np.random.default_rng(0)).values()
    assert len(set(made[0].tolist())) == 5
    assert made[0].dtype == np.float32
    assert 0.5 <= made[0].min() <= made[0].max() <= 1.5
    assert made[1] is trained
    assert made[2] is count
    assert made[3] is single
    np.testing.assert_array_equal(alike, np.ones(5))


def test_statistics_are_near_what_first_reaches_a_normalization() -> None:
    inputs = keras.Input((6,))
    norm = kl.BatchNormalization()
    model = keras.Model(inputs, kl.Dense(2)(norm(kl.Dense(3)(inputs))))
    found = units(model)
    weights = read_weights(found.graph)
    originals = {id(call.op): call.op for call in found.graph.calls}
    statistics = Statistics(found, originals, weights, np.random.default_rng(0))
    call = next(call for call in found.graph.calls if call.op is norm)
    x = np.random.default_rng(1).normal(40, 3, (50, 3)).astype("float32")
    once = np.asarray(statistics.normalize(call, (x,), {}))
    assert abs(once.mean(0)).max() < 1
    assert 0.5 < once.std() < 2
    np.testing.assert_array_equal(statistics.normalize(call, (x,), {}), once)
    given = dict(zip([w.name for w in norm.weights], statistics.weights(weights)[id(norm)],
                     strict=True))  # fmt: skip
    assert abs(given["moving_mean"] - 40).max() < 3
    norm.set_weights(list(given.values()))
    np.testing.assert_allclose(norm(x, training=False), once, atol=1e-5)
    dense = next(call for call in found.graph.calls if call.op is not norm)
    assert statistics.normalize(dense, (x,), {}) is None
