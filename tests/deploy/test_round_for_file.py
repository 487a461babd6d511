from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

import tfprune
from tfprune.deploy import round_for_file
from tfprune.deploy.converter.options import Options, settings_for
from tfprune.deploy.round_for_file import rounded, why_not
from tfprune.deploy.tflite import to_tflite
from tfprune.deploy.verify.reference import model_outputs
from tfprune.errors import ConversionError, OptionError
from tfprune.few_bits import learn
from tfprune.graph.model_signature import interface
from tfprune.runtime.inspect import inspect
from tfprune.runtime.litert import Runner

L = keras.layers
RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 8, 8, 3)).astype("float32")
X = ((X + np.roll(X, 1, axis=1) + np.roll(X, 1, axis=2)) * [1.0, 2.0, 0.5]).astype("float32")

pytestmark = pytest.mark.usefixtures("quantizer")


@pytest.fixture(scope="module")
def model() -> Any:
    keras.utils.set_random_seed(0)
    x = keras.Input((8, 8, 3))
    h = L.ReLU()(L.BatchNormalization(name="norm")(L.Conv2D(8, 3, name="stem")(x)))
    h = L.DepthwiseConv2D(3, activation="relu", name="depthwise")(h)
    h = L.Conv2D(12, 1, activation="relu", name="point")(h)
    model = keras.Model(x, L.Dense(5, name="head")(L.Flatten()(h)))
    model.get_layer("norm").gamma.assign(np.geomspace(0.1, 10, 8))
    return model


def error(artifact: Any, model: Any) -> float:
    wanted = model(X, training=False).numpy()
    return float(np.sqrt(np.mean((Runner(artifact.bytes)(X) - wanted) ** 2)) / wanted.std())


def kinds(artifact: Any) -> dict[str, str]:
    """Return the type of each kernel, by layer."""
    names = ("stem", "depthwise", "point", "head")
    return {
        next(name for name in names if name in tensor.name): tensor.dtype
        for tensor in inspect(artifact).tensors
        if len(tensor.shape) > 1 and any(name in tensor.name for name in names)
    }


@pytest.mark.slow
def test_a_file_of_4_bits_is_nearer_to_the_model_which_keeps_its_weights(model: Any) -> None:
    before = model.get_weights()
    errors, files = {}, {}
    for rounding in (None, "nearest", "learned"):
        made = to_tflite(model, scheme="int4", calibration=X, rounding=rounding)
        errors[rounding], files[rounding] = error(made, model), made
        assert kinds(made) == {
            "stem": "int4", "depthwise": "int8", "point": "int4", "head": "int4"
        }  # fmt: skip
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert files[None].bytes == files["learned"].bytes
    assert errors["learned"] < 0.6 * errors["nearest"]
    notes = " ".join(files["learned"].report.notes)
    assert "channels of 3 tensors were given equal ranges" in notes
    assert "weights of 4 layers were rounded together on the samples; biases of 4" in notes
    assert not any("rounded" in note for note in files["nearest"].report.notes)


@pytest.mark.slow
def test_layers_get_8_bits_where_the_bound_needs_them(model: Any) -> None:
    bound = 0.13
    mixed = to_tflite(model, scheme="int4", calibration=X, rounding="corrected", bound=bound)
    assert error(mixed, model) < bound
    found = kinds(mixed)
    assert set(found.values()) == {"int4", "int8"}
    raised = [name for name in ("stem", "point", "head") if found[name] == "int8"]
    assert raised
    note = next(note for note in mixed.report.notes if note.startswith("8 bits instead of 4"))
    assert all(f"{name}/kernel" in note for name in raised)


@pytest.mark.slow
def test_int8(model: Any) -> None:
    nearest = to_tflite(model, scheme="int8", calibration=X, io="float32")
    learned = to_tflite(model, scheme="int8", calibration=X, io="float32", rounding="learned")
    assert error(learned, model) < 0.8 * error(nearest, model)


@pytest.mark.slow
def test_where_weights_are_rounded_to_the_nearest(model: Any) -> None:
    for options, reason in (
        ({"scheme": "int4"}, "there are no samples"),
        ({"scheme": "float32", "calibration": X}, "'float32' does not round weights"),
        (
            {"scheme": "int4", "calibration": X, "layers": {"head": "float32"}},
            "layers= gives some layers another scheme",
        ),
    ):
        with pytest.raises(OptionError, match=f"rounding: 'learned' is not possible: .*{reason}"):
            to_tflite(model, rounding="learned", **options)
    with pytest.raises(OptionError, match="rounding: unknown value 'best'"):
        to_tflite(model, scheme="int4", rounding="best")  # type: ignore[arg-type]
    joint = keras.models.clone_model(model)
    joint.set_weights(model.get_weights())
    tfprune.round_weights(joint, X, bits=3)
    made = to_tflite(joint, scheme="int4", calibration=X)
    assert any("multiples of few steps already" in note for note in made.report.notes)


def test_a_failure_restores_the_weights(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = model.get_weights()

    def failing(*args: Any) -> Any:
        raise ConversionError("no")

    monkeypatch.setattr(learn, "round_jointly", failing)
    with pytest.raises(ConversionError, match="no"):
        to_tflite(model, scheme="int4", calibration=X)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def rounds(model: Any, samples: Any, bound: float = 0.5, method: str = "learned") -> tuple:
    """Round a model; return the notes, and the error of its outputs when it is rounded."""
    options = Options(calibration=samples, bound=bound, rounding=method, random="mean")
    face = replace(interface(model), mean_draws=True)
    given, notes = {face.inputs[0].name: samples}, []
    wanted = model_outputs(face, given)
    with rounded(face, settings_for("int4", options), given, notes):
        found = model_outputs(face, given)
    name = next(iter(wanted))
    return notes, float(np.std(found[name] - wanted[name]) / wanted[name].std())


FLAT = RNG.standard_normal((64, 16)).astype("float32")


class Drawn(L.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.seed = keras.random.SeedGenerator(1)
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, inputs: Any) -> Any:
        self.calls.assign_add(1.0)
        return 0.3 * inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.seed)


def test_a_model_that_draws_is_rounded_with_the_means_and_stays_as_it_is() -> None:
    keras.utils.set_random_seed(0)
    x = keras.Input((16,))
    h = Drawn()(L.Dense(32)(L.Dense(32, activation="relu")(x)))
    model = keras.Model(x, L.Dense(16)(L.Dense(24, activation="relu")(h)))
    before = [variable.numpy() for variable in model.variables]
    assert rounds(model, FLAT)[1] < 0.2
    after = [variable.numpy() for variable in model.variables]
    assert all(map(np.array_equal, before, after))


def test_outputs_of_whole_numbers_and_kernels_with_lora() -> None:
    keras.utils.set_random_seed(0)
    x, first = keras.Input((16,)), L.Dense(32, activation="relu")
    h = L.Dense(8)(first(x))
    model = keras.Model(x, [h, h > 0.0, keras.ops.argmax(h, -1)])
    first.enable_lora(2)
    notes, error = rounds(model, FLAT)
    assert error < 0.2
    assert any("weights of 1 layers were rounded" in note for note in notes)


def test_rounding_ends_when_all_layers_have_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        runs.append(1)
        return learn.round_in_turn(*args, **kwargs)

    monkeypatch.setattr(round_for_file, "round_in_turn", counted)
    model = keras.Sequential([keras.Input((16,)), L.Dense(32, "relu"), L.Dense(8)])
    notes, _ = rounds(model, FLAT, bound=1e-9, method="corrected")
    assert "8 bits instead of 4" in notes[-1]
    assert len(runs) == 2


def test_a_model_without_kernels_is_not_rounded() -> None:
    model = keras.Sequential([keras.Input((5,), dtype="int32"), L.Embedding(9, 4)])
    settings = settings_for("int4", Options())
    assert "no layer" in why_not(interface(model), settings, calibrated=True, aware=False)
