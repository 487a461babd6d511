"""What training uses of Keras's private parts does what it is used for."""

import keras
import numpy as np
import pytest

from tfprune.keras_support.trainer_internals import (
    batches_of_arrays,
    begin_at_first_epoch,
    in_precision,
    seed_states_of,
    set_all_seeds,
)

X = np.arange(24, dtype="float32").reshape(12, 2)


def small(*layers: keras.layers.Layer) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), *layers, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def test_draws_without_a_seed_repeat_after_all_seeds_are_set() -> None:
    drawn = []
    for _ in range(2):
        set_all_seeds(3)
        drawn.append(np.array(keras.random.normal((4,))))
    np.testing.assert_array_equal(*drawn)
    assert (np.array(keras.random.normal((4,))) != drawn[1]).all()


def test_every_state_of_random_numbers_is_found() -> None:
    model = small(keras.layers.Dropout(0.5), keras.layers.GaussianNoise(1.0))
    states = seed_states_of(model)
    assert len(states) == 3
    before = [np.array(state) for state in states]
    first = np.array(model(X, training=True))
    for state, value in zip(states, before, strict=True):
        state.assign(value)
    np.testing.assert_array_equal(model(X, training=True), first)


def test_batches_are_those_of_fit() -> None:
    weights = []
    for given in ("arrays", "dataset"):
        set_all_seeds(1)
        model = small()
        if given == "arrays":
            model.fit(X, X[:, :1], batch_size=5, verbose=0)
        else:
            batches = batches_of_arrays((X, X[:, :1]), 5)
            model.fit(batches, shuffle=False, steps_per_epoch=3, verbose=0)
        weights.append(model.get_weights()[0])
    np.testing.assert_array_equal(*weights)


def test_fit_begins_at_its_first_epoch_again(tmp_path) -> None:
    backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    for _ in range(2):
        model = small()
        model.fit(X, X[:, :1], epochs=2, verbose=0, callbacks=[backup])
    assert model.fit(X, X[:, :1], epochs=2, verbose=0).epoch == []
    begin_at_first_epoch(model)
    assert model.fit(X, X[:, :1], epochs=2, verbose=0).epoch == [0, 1]


def test_the_precision_is_that_of_before_even_after_an_error() -> None:
    model = small(keras.layers.Dense(2))
    optimizer = model.optimizer

    def fail() -> None:
        with in_precision(model, "mixed_float16"):
            assert model.layers[0](X).dtype == "float16"
            assert model(X).dtype == "float32"
            assert model.optimizer.inner_optimizer is optimizer
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert model.optimizer is optimizer
    assert model.layers[0](X).dtype == "float32"
    with in_precision(model, None):
        assert model.layers[0](X).dtype == "float32"
