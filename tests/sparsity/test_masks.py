"""Held zeros are exact, however the model is trained."""

import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from tfprune.sparsity.choices.selection import keep_count
from tfprune.sparsity.masks import Hold, holds_of, prunings_of

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def kept(model: keras.Model) -> dict[str, tuple[int, int]]:
    """Return (weights that are not zero, weights) of each kernel."""
    return {row.path: (row.size - row.zeros, row.size) for row in tfprune.sparsity_of(model)}


def assert_pruned_exactly(model: keras.Model, sparsity: float) -> None:
    for path, (left, size) in kept(model).items():
        assert left == keep_count(size, sparsity), path


def polynomial() -> tfprune.PolynomialDecay:
    return tfprune.PolynomialDecay(0.0, 0.8, begin_step=2, end_step=13, frequency=5)


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_zeros_are_exact_in_fit(model, data, jit_compile, steps_per_execution) -> None:
    config, summary = model.get_config(), text_of(model)
    names = [v.path for v in model.variables]
    assert tfprune.prune_low_magnitude(model, polynomial()) is model
    model.compile("adam", LOSS, jit_compile=jit_compile, steps_per_execution=steps_per_execution)
    model.fit(*data, batch_size=8, epochs=3, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert_pruned_exactly(model, 0.8)
    assert tfprune.strip_pruning(model) is model
    assert_pruned_exactly(model, 0.8)
    assert holds_of(model) == []
    assert model.get_config() == config
    assert text_of(model) == summary
    assert [v.path for v in model.variables] == names


def text_of(model: keras.Model) -> str:
    lines: list[str] = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    return "\n".join(line for line in lines if "Optimizer" not in line and "Total" not in line)


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def mixed_precision(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def test_zeros_are_exact_in_mixed_precision(mixed_precision, data) -> None:
    layers = [
        keras.Input((12,)),
        keras.layers.Dense(20, activation="relu"),
        keras.layers.Dense(3),
    ]
    model = tfprune.prune_low_magnitude(keras.Sequential(layers), polynomial())
    model.compile("adam", LOSS)
    scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (mixed_precision == "mixed_float16")
    model.fit(*data, batch_size=8, epochs=3, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    assert_pruned_exactly(tfprune.strip_pruning(model), 0.8)


def test_zeros_are_exact_in_a_custom_training_loop(model, data) -> None:
    tfprune.prune_low_magnitude(model, polynomial())
    model.optimizer = optimizer = keras.optimizers.Adam()
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = LOSS(y, model(x, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)

    callback.on_train_begin()
    for batch in range(20):
        step(data[0][:8], data[1][:8])
        callback.on_train_batch_end(batch)
    assert_pruned_exactly(tfprune.strip_pruning(model), 0.8)


def test_zeros_are_held_between_the_updates_too(model, data) -> None:
    tfprune.prune(model, 0.5)
    zeros = {hold.kernel.path: hold.mask_array() for hold in holds_of(model)}
    model.compile("adam", LOSS)
    for _ in range(5):
        model.train_on_batch(*data)
        for hold in holds_of(model):
            assert not hold.weights()[~zeros[hold.kernel.path]].any()
            assert hold.weights()[zeros[hold.kernel.path]].all()


@pytest.mark.parametrize("jit_compile", [True, False])
def test_zeros_are_positive_zeros_whatever_was_masked(model, data, jit_compile) -> None:
    tfprune.prune(model, 0.5)
    (hold, _) = holds_of(model)
    model.compile("adam", LOSS, jit_compile=jit_compile)
    model.train_on_batch(*data)
    hold.kernel.variable.assign(np.where(hold.mask_array(), hold.weights(), -np.inf))
    hold.apply()
    model.train_on_batch(*data)
    pruned = hold.weights()[~hold.mask_array()]
    assert not pruned.any()
    assert not np.signbit(pruned).any()


def test_weights_are_those_of_the_moment_they_were_asked_for(model, data) -> None:
    tfprune.prune(model, 0.5)
    model.compile("adam", LOSS)
    model.train_on_batch(*data)
    (hold, _) = holds_of(model)
    weights, mask = hold.weights(), hold.mask_array()
    before = weights.copy()
    model.train_on_batch(*data)
    hold.set_mask(~mask)
    np.testing.assert_array_equal(weights, before)
    assert not hold.weights()[mask].any()


def test_a_model_compiled_before_pruning_is_held_as_well(model, data) -> None:
    model.compile("adam", LOSS)
    model.train_on_batch(*data)
    tfprune.prune(model, 0.5)
    model.train_on_batch(*data)
    assert_pruned_exactly(model, 0.5)


def test_a_constraint_of_the_user_still_applies(data) -> None:
    dense = keras.layers.Dense(3, kernel_constraint=keras.constraints.NonNeg())
    model = keras.Sequential([keras.Input((12,)), dense])
    tfprune.prune(model, 0.5)
    model.compile("sgd", LOSS)
    model.train_on_batch(*data)
    assert (dense.kernel.numpy() >= 0).all()
    tfprune.strip_pruning(model)
    assert isinstance(dense.kernel.constraint, keras.constraints.NonNeg)


def test_a_stripped_part_trains_freely_in_an_earlier_compiled_step(model, data) -> None:
    tfprune.prune(model, 0.5)
    model.compile("adam", LOSS)
    model.train_on_batch(*data)
    tfprune.strip_pruning(model.get_layer("head"))
    model.train_on_batch(*data)
    assert np.count_nonzero(model.get_layer("head").kernel.numpy()) == 60
    assert np.count_nonzero(model.get_layer("hidden").kernel.numpy()) == 120


def test_saved_files_hold_no_custom_objects(model, data, tmp_path) -> None:
    tfprune.prune(model, 0.8)
    path = tmp_path / "held.keras"
    model.save(path)
    loaded = keras.models.load_model(path, safe_mode=True)
    assert "tfprune" not in zipfile.ZipFile(path).read("config.json").decode()
    np.testing.assert_array_equal(loaded.predict(data[0], verbose=0),
                                  model.predict(data[0], verbose=0))  # fmt: skip
    assert_pruned_exactly(loaded, 0.8)


def test_inference_writes_nothing(model, data) -> None:
    tfprune.prune(model, 0.5)
    ones = np.ones((12, 20), "float32")
    model.get_layer("hidden").kernel.assign(ones)
    model.predict(data[0], verbose=0)
    np.testing.assert_array_equal(model.get_layer("hidden").kernel.numpy(), ones)


def test_a_frozen_layer_is_pruned_once_and_stays(model, data) -> None:
    model.get_layer("hidden").trainable = False
    before = model.get_layer("hidden").kernel.numpy()
    tfprune.prune_low_magnitude(model, polynomial())
    model.compile("adam", LOSS)
    model.fit(*data, batch_size=8, epochs=3, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    after = model.get_layer("hidden").kernel.numpy()
    assert np.count_nonzero(after) == 48
    np.testing.assert_array_equal(after[after != 0], before[after != 0])


def test_restored_weights_are_masked_when_stripped_with_a_warning(model, data) -> None:
    before = model.get_weights()
    tfprune.prune_low_magnitude(model, polynomial())
    model.compile("adam", LOSS)
    model.fit(*data, batch_size=8, epochs=3, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
    model.set_weights(before)
    with pytest.warns(
        tfprune.errors.ScheduleWarning, match=r"set \d+ pruned weights of hidden/kernel"
    ):
        tfprune.strip_pruning(model)
    assert_pruned_exactly(model, 0.8)


def test_a_replaced_optimizer_does_not_start_the_schedule_again(model, data) -> None:
    tfprune.prune_low_magnitude(model, polynomial())
    callback = tfprune.UpdatePruningStep()
    for _ in range(2):
        model.compile("adam", LOSS)
        model.fit(*data, batch_size=8, epochs=2, verbose=0, callbacks=[callback])
        assert_pruned_exactly(model, 0.8)
    (pruning,) = prunings_of(model)
    assert pruning.step == 32


def test_pruning_again_replaces_the_mask_and_keeps_its_zeros(model) -> None:
    tfprune.prune(model, 0.5)
    first = {h.kernel.path: h.mask_array() for h in holds_of(model)}
    tfprune.prune(model, 0.8)
    assert_pruned_exactly(model, 0.8)
    assert len(prunings_of(model)) == 1
    for hold in holds_of(model):
        assert not (hold.mask_array() & ~first[hold.kernel.path]).any()


def test_a_mask_update_counts_restored_weights(model) -> None:
    tfprune.prune(model, 0.5, only="head")
    (hold,) = holds_of(model)
    assert isinstance(hold, Hold)
    hold.set_mask(np.ones((20, 3), bool))
    assert tfprune.sparsity_of(model)["head/kernel"].revived == 30
