"""Every way of training ends with the requested zeros, or warns in `fit`."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfprune
from tfprune.errors import ModelError, ScheduleWarning
from tfprune.sparsity.masks import prunings_of

Adam = keras.optimizers.Adam
X = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")
Y = np.random.default_rng(1).standard_normal((64, 1)).astype("float32")
NOT_ADVANCED = r"the model trains, but nothing advances PolynomialDecay.*Add UpdatePruningStep\(\)"
no_trainable_weights = pytest.mark.filterwarnings(  # which Keras says of frozen models
    "ignore:The model does not have any trainable weights:UserWarning"
)

distills = pytest.mark.skipif(
    not hasattr(keras, "distillation"), reason="this Keras has no keras.distillation yet"
)


def dense(units: int = 10) -> keras.Model:
    layers = [keras.Input((8,)), keras.layers.Dense(units), keras.layers.Dense(1)]
    return keras.Sequential(layers)


def scheduled(model: keras.Model | None = None, end_step: int = 12) -> keras.Model:
    schedule = tfprune.PolynomialDecay(0.0, 0.5, 0, end_step, frequency=4)
    return tfprune.prune(model or dense(), 0.5, schedule=schedule)


def fit(model, optimizer="adam", epochs=2, callbacks=None, **options) -> keras.Model:
    """Train 8 batches an epoch."""
    model.compile(optimizer, "mse", **options)
    return fit_on(model, epochs, callbacks)


def fit_on(model, epochs=2, callbacks=None) -> keras.Model:
    if callbacks is None:
        callbacks = [tfprune.UpdatePruningStep()]
    model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks)
    return model


def assert_half_is_zero(model: keras.Model) -> None:
    for row in tfprune.sparsity_of(model):
        assert row.zeros == row.size // 2, row


# Frozen models


@no_trainable_weights
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_frozen_model_follows_its_schedule_by_batches(when) -> None:
    model = dense()
    model.trainable = when == "after"
    scheduled(model)
    model.trainable = False
    seen = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(tfprune.sparsity_of(model).zeros)
    )
    fit(model, callbacks=[tfprune.UpdatePruningStep(), count])
    assert_half_is_zero(model)
    assert [seen.index(zeros) for zeros in sorted(set(seen))] == [0, 4, 8, 12]


@no_trainable_weights
def test_a_frozen_model_is_followed_over_two_trainings_and_several_batches_at_once() -> None:
    model = scheduled(end_step=24)
    model.trainable = False
    with pytest.warns(ScheduleWarning, match="this training ends at step 8"):
        fit(model, epochs=1, steps_per_execution=4)
    fit_on(model, epochs=2)
    assert prunings_of(model)[0].step == 24
    assert_half_is_zero(model)


@no_trainable_weights
def test_frozen_between_two_trainings() -> None:
    model = scheduled()
    with pytest.warns(ScheduleWarning, match="this training ends at step 8"):
        fit(model, epochs=1)
    model.trainable = False
    assert_half_is_zero(fit(model, epochs=1))


def test_frozen_in_the_middle_of_a_training() -> None:
    model = scheduled()
    freeze = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: setattr(model, "trainable", epoch == 0)
    )
    assert_half_is_zero(fit(model, callbacks=[tfprune.UpdatePruningStep(), freeze]))
    assert prunings_of(model)[0].step == 16


@distills
@pytest.mark.parametrize("part", ["teacher", "student"])
def test_a_part_of_a_distiller_follows_its_schedule(part) -> None:
    parts = {"teacher": dense(), "student": dense(4)}
    loss = keras.distillation.LogitsDistillation()
    distiller = keras.distillation.Distiller(**parts, distillation_losses=loss)
    scheduled(parts[part])
    fit(distiller)
    assert_half_is_zero(parts[part])


@distills
@no_trainable_weights
def test_a_teacher_that_a_distiller_froze_follows_its_schedule() -> None:
    teacher = dense()
    loss = keras.distillation.LogitsDistillation()
    keras.distillation.Distiller(teacher, dense(4), distillation_losses=loss)
    assert_half_is_zero(fit(scheduled(teacher)))


# Averages of the weights

EMA = {
    "plain": ({}, {}),
    "overwriting": ({"ema_overwrite_frequency": 5}, {}),
    "accumulating": ({"gradient_accumulation_steps": 2}, {}),
    "jit": ({}, {"jit_compile": True}),
    "several steps": ({}, {"steps_per_execution": 4}),
    "eager": ({}, {"run_eagerly": True}),
}


@pytest.mark.parametrize("name", EMA)
@pytest.mark.slow
def test_the_averages_that_an_optimizer_ends_with_have_the_zeros(name) -> None:
    options, compiled = EMA[name]
    model = fit(scheduled(), Adam(use_ema=True, **options), epochs=4, **compiled)
    assert_half_is_zero(model)
    once = tfprune.prune(dense(), 0.5)
    assert_half_is_zero(fit(once, Adam(use_ema=True, **options), callbacks=[], **compiled))


def wrapped(optimizer: Adam) -> keras.optimizers.Optimizer:
    return keras.optimizers.LossScaleOptimizer(optimizer)


def several(optimizer: Adam) -> keras.optimizers.Optimizer:
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(optimizer))


without_several = pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="this Keras has no MultiOptimizer yet"
)


@pytest.mark.parametrize("wrap", [wrapped, pytest.param(several, marks=without_several)])
def test_averages_of_an_optimizer_within_another(wrap) -> None:
    assert_half_is_zero(fit(scheduled(), wrap(Adam(use_ema=True))))


def test_averages_where_a_part_of_the_model_was_pruned() -> None:
    inner = dense()
    model = keras.Sequential([keras.Input((8,)), inner, keras.layers.Dense(1)])
    tfprune.prune(inner.layers, 0.5)
    fit(model, Adam(use_ema=True), callbacks=[])
    assert_half_is_zero(inner)


@pytest.mark.parametrize("order", [1, -1])
def test_a_checkpoint_of_averages_has_the_zeros(order, tmp_path) -> None:
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    save = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    callbacks = [tfprune.UpdatePruningStep(), swap][::order]
    model = fit(scheduled(), Adam(use_ema=True), epochs=3, callbacks=[*callbacks, save])
    assert_half_is_zero(model)
    for epoch in (2, 3):
        assert_half_is_zero(keras.saving.load_model(tmp_path / f"{epoch}.keras"))


def test_averages_of_weights_that_stay_are_those_of_the_optimizer() -> None:
    """Masking them changes none that is not masked."""
    keras.utils.set_random_seed(0)
    plain = dense()
    pruned = tfprune.prune(keras.models.clone_model(plain), 0.0)
    pruned.set_weights(plain.get_weights())
    for model in (plain, pruned):
        model.compile(keras.optimizers.SGD(0.01, use_ema=True), "mse")
        model.fit(X, Y, batch_size=64, epochs=8, verbose=0)
    for mine, theirs in zip(pruned.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


# Gradients gathered over several batches


@pytest.mark.parametrize("wrap", [lambda optimizer: optimizer, wrapped])
def test_accumulated_gradients_count_as_one_step(wrap) -> None:
    model = scheduled()
    seen = []
    count = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(tfprune.sparsity_of(model).zeros)
    )
    optimizer = wrap(Adam(gradient_accumulation_steps=3))
    fit(model, optimizer, epochs=5, callbacks=[tfprune.UpdatePruningStep(), count])
    assert_half_is_zero(model)
    assert [seen.index(zeros) for zeros in sorted(set(seen))] == [0, 12, 24, 36]
    assert prunings_of(model)[0].step == 40 // 3


def test_a_training_too_short_is_seen_in_updates() -> None:
    model = scheduled(end_step=6)
    with pytest.warns(ScheduleWarning, match="end_step=6.*this training ends at step 5"):
        fit(model, Adam(gradient_accumulation_steps=3))  # 16 batches
    fit_on(model, epochs=1)
    assert_half_is_zero(model)


def test_summaries_count_updates(tmp_path) -> None:
    summaries = tfprune.PruningSummaries(str(tmp_path))
    callbacks = [tfprune.UpdatePruningStep(), summaries]
    fit(scheduled(end_step=4), Adam(gradient_accumulation_steps=2), callbacks=callbacks)
    (file,) = (tmp_path / "metrics").glob("*")
    records = tf.compat.v1.io.tf_record_iterator(str(file))
    events = [tf.compat.v1.Event.FromString(record) for record in records]
    assert {event.step for event in events if event.summary.value} == {0, 4}


# Nothing that follows the schedule


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"steps_per_execution": 4},
                                     {"run_eagerly": True}], ids=str)  # fmt: skip
def test_fit_without_the_callback_warns(options) -> None:
    with pytest.warns(ScheduleWarning, match=NOT_ADVANCED) as caught:
        fit(scheduled(), callbacks=[], **options)
    assert len(caught) == 1
    assert "sequential" in str(caught[0].message)
    assert "at a sparsity of 0 of 0.5" in str(caught[0].message)


def step_by_batch(model) -> None:
    model.compile("adam", "mse")
    model.train_on_batch(X, Y)


def step_of_ones_own(model) -> None:
    optimizer, loss = Adam(), keras.losses.MeanSquaredError()

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss(Y, model(X))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)

    step()


@pytest.mark.parametrize("train", [step_by_batch, step_of_ones_own])
def test_a_loop_without_the_callback_warns(train) -> None:
    with pytest.warns(ScheduleWarning, match=NOT_ADVANCED):
        train(scheduled())


def test_training_a_part_without_the_callback_warns() -> None:
    inner = dense()
    model = keras.Sequential([keras.Input((8,)), inner])
    scheduled(inner)
    with pytest.warns(ScheduleWarning, match=NOT_ADVANCED):
        fit(model, callbacks=[])


def test_further_training_without_the_callback_warns() -> None:
    model = scheduled()
    with pytest.warns(ScheduleWarning, match="this training ends at step 8"):
        fit(model, epochs=1)
    with pytest.warns(ScheduleWarning, match=NOT_ADVANCED) as caught:
        fit_on(model, callbacks=[])
    assert len(caught) == 1
    assert_half_is_zero(fit_on(model, epochs=1))


def test_further_training_after_the_end_of_the_schedule_needs_no_callback() -> None:
    model = fit(scheduled())
    step = model.train_function
    assert_half_is_zero(fit_on(model, callbacks=[]))
    assert model.train_function is step


def test_a_training_that_is_stopped_early_warns() -> None:
    model = scheduled()
    stop = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(model, "stop_training", batch == 5)
    )
    with pytest.warns(ScheduleWarning, match="this training ends at step 6"):
        fit(model, callbacks=[tfprune.UpdatePruningStep(), stop])


def test_a_compiled_step_is_kept_from_one_training_to_the_next() -> None:
    model = scheduled(end_step=16)
    with pytest.warns(ScheduleWarning, match="this training ends at step 8"):
        fit(model, epochs=1)
    step = model.train_function.__wrapped__
    fit_on(model, epochs=1)
    assert model.train_function is step
    assert_half_is_zero(model)


# Weights and constraints set by others


def test_weights_restored_at_the_end_of_training_are_masked_with_a_warning() -> None:
    model = scheduled()
    before = model.get_weights()
    restore = keras.callbacks.LambdaCallback(on_train_end=lambda logs: model.set_weights(before))
    with pytest.warns(
        ScheduleWarning, match=r"set 45 pruned weights of .* back to zero, .* evaluate"
    ):
        fit(model, callbacks=[restore, tfprune.UpdatePruningStep()])
    assert_half_is_zero(model)


def test_a_constraint_that_replaces_a_mask_is_a_warning() -> None:
    model = scheduled()
    model.layers[0].kernel.constraint = keras.constraints.NonNeg()
    with pytest.warns(ScheduleWarning, match="UpdatePruningStep: .*not held. Set it before"):
        fit(model)
    with pytest.warns(ScheduleWarning, match="strip_pruning: .*not held. Set it before"):
        tfprune.strip_pruning(model)
    assert isinstance(model.layers[0].kernel.constraint, keras.constraints.NonNeg)


# Models saved in the middle


@pytest.fixture
def half_way(tmp_path):
    model = scheduled()
    with pytest.warns(ScheduleWarning, match="this training ends at step 8"):
        fit(model, epochs=1)
    model.save(tmp_path / "half.keras")
    return tmp_path / "half.keras"


def test_the_callback_on_a_loaded_model_names_the_zeros_without_a_mask(half_way) -> None:
    model = keras.saving.load_model(half_way)
    with pytest.raises(ModelError, match=r"no mask holds the zeros of .*kernel \(49%\).*; call"):
        fit_on(model)


def test_a_loaded_model_warns_when_training_overwrites_its_zeros(half_way) -> None:
    model = tfprune.load_model(half_way)
    with pytest.warns(
        ScheduleWarning, match=r"overwrites the zeros of .*\(49%\).*Call prune\(\) again"
    ):
        fit_on(model, callbacks=[])


def test_a_loaded_model_that_is_pruned_again_keeps_its_zeros(half_way) -> None:
    model = scheduled(tfprune.load_model(half_way))
    assert_half_is_zero(fit_on(model, epochs=1))
    assert tfprune.strip_pruning(model).layers[0].kernel.constraint is None
