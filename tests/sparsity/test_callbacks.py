import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from tfprune.errors import ModelError, OptionError, ScheduleWarning
from tfprune.sparsity.masks import holds_of, prunings_of

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def fit(model, data, epochs=1, callbacks=(), **options):
    if not model.compiled:
        model.compile(keras.optimizers.Adam(0.01), LOSS)
    step = tfprune.UpdatePruningStep()
    return model.fit(*data, batch_size=8, epochs=epochs, verbose=0, shuffle=False,
                     callbacks=[step, *callbacks], **options)  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        # 64 samples, batches of 8: 8 steps an epoch.
        (tfprune.ConstantSparsity(0.5, begin_step=9), "never fires: this training ends at step 8"),
        (tfprune.PolynomialDecay(0.0, 0.8, 0, 1000), "never prunes anything"),
        (tfprune.PolynomialDecay(0.0, 0.8, 0, 16, frequency=4), r"ends at 0\.7 of 0\.8"),
    ],
)
def test_a_schedule_too_long_for_the_training_warns_before_the_first_epoch(
    model, data, schedule, message
) -> None:
    tfprune.prune_low_magnitude(model, schedule)
    model.compile("adam", LOSS)
    with pytest.warns(ScheduleWarning, match=message), pytest.raises(Killed):
        fit(model, data, callbacks=[StopAtOnce()])


class StopAtOnce(keras.callbacks.Callback):
    """Ends the training before its second batch."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 1:
            raise Killed


class Killed(Exception):
    """The end of a process that is killed."""


@pytest.mark.parametrize("end_step", [7, 8, 13, 16])
def test_the_final_sparsity_is_reached_wherever_the_ramp_ends(model, data, end_step) -> None:
    tfprune.prune_low_magnitude(model, tfprune.PolynomialDecay(0.0, 0.8, 0, end_step))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(model, data, epochs=2)
    assert tfprune.sparsity_of(model)["hidden/kernel"].zeros == 192


def test_masks_are_updated_where_the_schedule_says(model, data) -> None:
    schedule = tfprune.PolynomialDecay(0.0, 0.8, 2, 14, power=1, frequency=4)
    tfprune.prune_low_magnitude(model, schedule)
    seen = {}

    class Look(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            step = int(self.model.optimizer.iterations.numpy())
            seen[step] = tfprune.sparsity_of(model)["hidden/kernel"].zeros

    fit(model, data, epochs=2, callbacks=[Look()])
    changes = [0] * 6 + [64] * 4 + [128] * 4 + [192] * 2
    assert seen == dict(enumerate(changes))


def test_no_update_is_missed_when_a_batch_takes_more_steps_than_before(model) -> None:
    tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 90))
    model.compile("adam", LOSS)
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    for batch in range(66):
        model.optimizer.iterations.assign_add(1 if batch < 42 else 2)
        callback.on_train_batch_end(batch)
        due = int(model.optimizer.iterations) >= 90
        assert tfprune.sparsity_of(model)["hidden/kernel"].zeros == (120 if due else 0), batch
    assert due


def test_a_checkpoint_is_sparse_whatever_the_order_of_the_callbacks(model, data, tmp_path) -> None:
    tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0, frequency=3))
    model.compile("adam", LOSS)
    save = [
        keras.callbacks.ModelCheckpoint(tmp_path / f"{name}.keras", save_freq=freq)
        for name, freq in (("epoch", "epoch"), ("batches", 5))
    ]
    step = tfprune.UpdatePruningStep()
    for callbacks in ([*save, step], [step, *save]):
        model.fit(*data, batch_size=8, epochs=1, verbose=0, callbacks=callbacks)
        for file in tmp_path.glob("*.keras"):
            assert tfprune.sparsity_of(keras.models.load_model(file)).sparsity == 0.5
            file.unlink()


@pytest.fixture
def unbroken(data):
    """Return a function that trains a fresh model for two epochs without a break."""

    def train(**choices):
        model = fresh(**choices)
        fit(model, data, epochs=4)
        return model

    return train


def fresh(**choices) -> keras.Model:
    keras.utils.set_random_seed(3)
    x = keras.Input((12,))
    h = keras.layers.Dense(20, activation="relu", name="hidden")(x)
    model = keras.Model(x, keras.layers.Dense(4, name="head")(h))
    schedule = tfprune.PolynomialDecay(0.0, 0.75, 3, 27, frequency=4)
    return tfprune.prune(model, 0.75, schedule=schedule, **choices)


def assert_same(a: keras.Model, b: keras.Model) -> None:
    for v, w in zip(a.weights, b.weights, strict=True):
        np.testing.assert_array_equal(v.numpy(), w.numpy())
    for v, w in zip(holds_of(a), holds_of(b), strict=True):
        np.testing.assert_array_equal(v.mask_array(), w.mask_array())


CHOICES = [{}, {"pattern": "1:4"}, {"pattern": "block(2,1)"}, {"allocation": "global"},
           {"score": "random"}]  # fmt: skip


@pytest.mark.parametrize("choices", CHOICES, ids=str)
@pytest.mark.slow
def test_a_run_resumed_from_a_saved_model_ends_as_an_unbroken_one(
    data, unbroken, tmp_path, choices
) -> None:
    first = fresh(**choices)
    with pytest.warns(ScheduleWarning, match="ends at"):
        fit(first, data, epochs=2)
    first.save(tmp_path / "half.keras")
    resumed = keras.models.load_model(tmp_path / "half.keras")
    schedule = tfprune.PolynomialDecay(0.0, 0.75, 3, 27, frequency=4)
    tfprune.prune(resumed, 0.75, schedule=schedule, **choices)
    fit(resumed, data, epochs=2)
    assert_same(resumed, unbroken(**choices))


class Kill(keras.callbacks.Callback):
    """Ends a training as a crash would, in its third epoch."""

    def on_train_batch_begin(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == 18:
            raise Killed


@pytest.mark.parametrize("order", [1, -1])
def test_a_run_restarted_by_backup_and_restore_ends_as_an_unbroken_one(
    data, unbroken, tmp_path, order
) -> None:
    def train(*extra):
        model = fresh()
        model.compile(keras.optimizers.Adam(0.01), LOSS)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        callbacks = [backup, tfprune.UpdatePruningStep()][::order]
        model.fit(*data, batch_size=8, epochs=4, verbose=0, shuffle=False,
                  callbacks=[*callbacks, *extra])  # fmt: skip
        return model

    with pytest.raises(Killed):
        train(Kill())
    assert_same(train(), unbroken())


def test_a_model_trained_before_without_a_new_optimizer_is_warned_about(model, data) -> None:
    model.compile("adam", LOSS)
    model.fit(*data, batch_size=8, epochs=3, verbose=0)
    tfprune.prune_low_magnitude(model, tfprune.PolynomialDecay(0.0, 0.8, 0, 16))
    with pytest.warns(ScheduleWarning, match="has already done 24 steps.*compile"):
        fit(model, data)


def test_the_callback_on_a_model_that_is_not_pruned_is_an_error(model, data) -> None:
    with pytest.raises(ModelError, match="nothing of the model 'small' is pruned"):
        fit(model, data)


def test_a_training_loop_without_an_optimizer_is_an_error(model) -> None:
    tfprune.prune_low_magnitude(model)
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    with pytest.raises(ModelError, match=r"set model\.optimizer"):
        callback.on_train_begin()


@pytest.mark.parametrize("end", [{"batch": -1}, {"epoch": -1}])
@pytest.mark.parametrize("both_ends", [True, False])
def test_a_training_loop_that_reports_beginnings_follows_the_schedule(model, data, end, both_ends):
    """The loop that tensorflow-model-optimization documents, with batches of no number."""
    schedule = tfprune.PolynomialDecay(0.0, 0.8, 2, 14, power=1, frequency=4)
    tfprune.prune_low_magnitude(model, schedule)
    model.optimizer = keras.optimizers.Adam(0.01)
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    seen = []
    for _ in range(2):
        for first in range(0, 64, 8):
            callback.on_train_batch_begin(batch=-1)
            seen.append(tfprune.sparsity_of(model)["hidden/kernel"].zeros)
            x, y = (one[first : first + 8] for one in data)
            with tf.GradientTape() as tape:
                loss = LOSS(y, model(x, training=True))
            weights = model.trainable_variables
            model.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            if both_ends:
                callback.on_train_batch_end(batch=-1)
        callback.on_epoch_end(**end)
    assert seen == [0] * 6 + [64] * 4 + [128] * 4 + [192] * 2


def test_a_frozen_model_counts_the_batches_of_such_a_loop(model) -> None:
    tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 3))
    model.trainable = False
    model.optimizer = keras.optimizers.Adam()
    callback = tfprune.UpdatePruningStep()
    callback.set_model(model)
    callback.on_train_begin()
    for batch in range(4):
        callback.on_train_batch_begin(batch)
        zeros = tfprune.sparsity_of(model)["hidden/kernel"].zeros
        assert zeros == (0 if batch < 3 else 120), batch


def test_summaries_hold_the_sparsity_of_every_kernel(model, data, tmp_path) -> None:
    tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 0))
    fit(model, data, epochs=2, callbacks=[tfprune.PruningSummaries(str(tmp_path))])
    (file,) = (tmp_path / "metrics").glob("*")
    found = {}
    for record in tf.compat.v1.io.tf_record_iterator(str(file)):
        for value in tf.compat.v1.Event.FromString(record).summary.value:
            found.setdefault(value.tag, []).append(tf.make_ndarray(value.tensor).item())
    assert found["hidden/kernel/sparsity"] == [0.5, 0.5]
    assert found["head/kernel/threshold"][-1] > 0
    with pytest.raises(OptionError, match="expected a non-empty string"):
        tfprune.PruningSummaries("")


def test_steps_skipped_by_steps_per_execution_are_caught_up(model, data) -> None:
    tfprune.prune_low_magnitude(model, tfprune.ConstantSparsity(0.5, 3, frequency=100))
    model.compile("adam", LOSS, steps_per_execution=8)
    fit(model, data)
    (pruning,) = prunings_of(model)
    assert pruning.sparsity == 0.5
