"""Pruning that goes on in a model loaded inside `prune_scope`."""

import json
import warnings
import zipfile

import keras
import numpy as np
import pytest

import tfprune
from tfprune.errors import ArtifactError, ModelError, ScheduleWarning
from tfprune.sparsity.masks import holds_of, prunings_of
from tfprune.tfmot_compat import files

X = np.random.default_rng(0).standard_normal((64, 8)).astype("float32")
Y = np.random.default_rng(1).standard_normal((64, 4)).astype("float32")
RAMP = tfprune.PolynomialDecay(0.0, 0.75, np.int32(3), 27, frequency=4)


def fit(model, epochs, callback=True):
    """Train 8 steps an epoch, without a word about a schedule that does not end."""
    callbacks = [tfprune.UpdatePruningStep()] if callback else []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*ends at.*", ScheduleWarning)
        model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks)
    return model


def whole(**options):
    layers = [keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(4)]
    return tfprune.prune_low_magnitude(keras.Sequential(layers), RAMP, **options)


def by_layer(**options):
    first = tfprune.prune_low_magnitude(keras.layers.Dense(16), RAMP, **options)
    second = tfprune.prune_low_magnitude(keras.layers.Dense(4), tfprune.ConstantSparsity(0.5, 2))
    return keras.Sequential([keras.Input((8,)), first, second])


def a_list(**options):
    layers = [keras.layers.Dense(16), keras.layers.BatchNormalization(), keras.layers.Dense(4)]
    return keras.Sequential(
        [keras.Input((8,)), *tfprune.prune_low_magnitude(layers, RAMP, **options)]
    )


def nested(**options):
    inner = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)])
    kept = tfprune.prune_low_magnitude(keras.layers.Dense(4), tfprune.ConstantSparsity(0.5, 2))
    return tfprune.prune_low_magnitude(
        keras.Sequential([keras.Input((8,)), inner, kept]), RAMP, **options
    )


def through_a_file(model, path):
    model.save(path)
    with tfprune.prune_scope():
        return keras.models.load_model(path)


def every_pair():
    """Each way to prune with each option; one option of each way is slow, the rest exhaustive."""
    options = [{}, {"block_size": (2, 1)}, {"sparsity_m_by_n": (2, 4)}]
    for place, build in enumerate([whole, by_layer, a_list, nested]):
        for number, option in enumerate(options):
            mark = pytest.mark.slow if place % 3 == number else pytest.mark.exhaustive
            yield pytest.param(build, option, marks=mark, id=f"{build.__name__}-{option}")


@pytest.mark.parametrize(("build", "options"), list(every_pair()))
def test_a_loaded_model_ends_as_one_that_was_not_interrupted(build, options, tmp_path) -> None:
    ends = []
    for interrupted in (False, True):
        keras.utils.set_random_seed(0)
        model = build(**options)
        model.compile(keras.optimizers.Adam(0.01), "mse")
        fit(model, 2)
        if interrupted:
            model = through_a_file(model, tmp_path / "half.keras")
        ends.append(fit(model, 2))
    unbroken, loaded = ends
    for a, b in zip(unbroken.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    for a, b in zip(holds_of(unbroken), holds_of(loaded), strict=True):
        np.testing.assert_array_equal(a.mask_array(), b.mask_array())
        assert a.kernel.layer.pruning_schedule == b.kernel.layer.pruning_schedule
    assert tfprune.sparsity_of(tfprune.strip_pruning(loaded)).sparsity >= 0.5


def test_zeros_that_the_mask_keeps_are_not_pruned_later(tmp_path) -> None:
    class WithBias(keras.layers.Dense, tfprune.PrunableLayer):
        def get_prunable_weights(self):
            return [self.kernel, self.bias]

    layer = WithBias(4, bias_initializer="ones")
    model = tfprune.prune_low_magnitude(keras.Sequential([keras.Input((8,)), layer]), RAMP)
    model.compile("sgd", "mse")
    fit(model, 1)
    kept = holds_of(model)[1].mask_array()
    layer.bias.assign(np.zeros(4))
    with keras.saving.custom_object_scope({"WithBias": WithBias}):
        loaded = through_a_file(model, tmp_path / "model.keras")
    np.testing.assert_array_equal(holds_of(loaded)[1].mask_array(), kept)
    assert kept.any()


def test_what_a_policy_left_out_is_left_out_after_loading(tmp_path) -> None:
    class HeadOnly(tfprune.PruningPolicy):
        def allow_pruning(self, layer):
            return layer.name == "head"

        def ensure_model_supports_pruning(self, model):
            assert model.get_layer("head")

    layers = [keras.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(4, name="head")]
    model = tfprune.prune_low_magnitude(keras.Sequential(layers), RAMP, pruning_policy=HeadOnly())
    loaded = through_a_file(model, tmp_path / "model.keras")
    assert [hold.kernel.layer.name for hold in holds_of(loaded)] == ["head"]


def test_a_loaded_model_that_trains_without_the_callback_warns(tmp_path) -> None:
    model = whole()
    model.compile("sgd", "mse")
    loaded = through_a_file(fit(model, 1), tmp_path / "model.keras")
    with pytest.warns(ScheduleWarning, match="nothing advances PolynomialDecay.*0.75"):
        fit(loaded, 1, callback=False)


def test_a_stripped_model_leaves_nothing_in_its_file(tmp_path) -> None:
    model = whole()
    model.compile("sgd", "mse")
    loaded = through_a_file(tfprune.strip_pruning(fit(model, 1)), tmp_path / "model.keras")
    assert holds_of(loaded) == []
    assert not any(
        "tfprune" in name for name in zipfile.ZipFile(tmp_path / "model.keras").namelist()
    )


def test_outside_the_scope_the_file_is_an_ordinary_model(tmp_path) -> None:
    model = whole()
    model.compile("sgd", "mse")
    fit(model, 1).save(tmp_path / "model.keras")
    with tfprune.prune_scope(), tfprune.prune_scope():
        pass
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert prunings_of(loaded) == []
    assert not hasattr(keras.layers.Layer, "load_assets")
    with pytest.raises(ModelError, match="call prune"):
        fit(loaded, 1)


class Undescribed(tfprune.PruningSchedule):
    """A schedule of a script whose author never meant to save it."""

    def __call__(self, step):
        return step == 2, 0.5

    def get_config(self):
        return {}


def test_a_schedule_that_cannot_be_stored_is_named_when_the_model_is_saved(tmp_path) -> None:
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)], name="small")
    tfprune.prune_low_magnitude(model, Undescribed())
    with pytest.warns(ScheduleWarning, match="schedule of 'small' cannot be stored.*prune the"):
        model.save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").name == "small"


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"format": "tfprune pruning 9"}, "its format is not"),
        ({"format": "tfprune pruning 1", "prunings": [{}]}, "pruning_schedule"),
        ({"format": "tfprune pruning 1", "prunings": [{"pruning_schedule":
          {"class_name": "Gone", "config": {}}}]}, "'Gone' is no subclass"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_continued_says_why(index, message, tmp_path) -> None:
    np.savez_compressed(tmp_path / files._FILE, index=np.array(json.dumps(index)))
    layer = keras.layers.Dense(4, name="small")
    layer.build((None, 8))
    with pytest.raises(ArtifactError, match=f"pruning of 'small'.*{message}"):
        files._restore(layer, str(tmp_path))
    assert holds_of(layer) == []
