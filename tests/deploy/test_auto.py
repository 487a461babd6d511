"""A scheme chosen by measuring real files."""

import json

import keras
import numpy as np
import pytest

from tfprune.deploy.auto import choose
from tfprune.deploy.converter.options import Options
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import OptionError
from tfprune.runtime.artifact import ConversionReport

L = keras.layers


@pytest.fixture(scope="module")
def chosen(convnet, images, labels, tmp_path_factory):
    path = tmp_path_factory.mktemp("chosen") / "model.tflite"
    return to_tflite(convnet, path, scheme="auto", calibration=images, data=(images, labels),
                     max_drop=0.05)  # fmt: skip


def test_every_candidate_has_a_row_and_the_reason_is_given(chosen, images, labels) -> None:
    choice = chosen.report.choice
    assert [row.scheme for row in choice.rows] == ["float32", "float16", "dynamic", "int8"]
    assert choice.judged_by == "accuracy"
    base = choice.rows[0]
    assert (base.ratio, base.drop, base.score) == (1.0, 0.0, 0.9)
    for row in choice.rows:
        assert row.q1 <= row.ratio <= row.q3
        assert row.passed == (row.drop <= 0.05 + 1e-9)
        assert row.drop == pytest.approx(base.score - row.score)
    assert choice.taken == chosen.report.scheme
    assert choice.why in chosen.report.notes
    assert "A/A" in choice.measured_on
    taken = next(row for row in choice.rows if row.scheme == choice.taken)
    assert taken.raw_bytes == len(chosen.bytes)
    able = [row.ratio for row in choice.rows if row.passed]
    assert taken.ratio <= min(able) * 1.03


def test_the_choice_is_in_the_report_beside_the_file(chosen) -> None:
    stored = json.loads(chosen.path.with_suffix(".json").read_text())
    assert ConversionReport.from_dict(stored) == chosen.report
    assert chosen.path.read_bytes() == chosen.bytes


def test_without_labels_agreement_with_the_float_file_decides(convnet, images) -> None:
    found = choose(convnet, Options(calibration=images), candidates=["int8"], max_drop=1.0, runs=3,
                   prefer="size")  # fmt: skip
    choice = found.report.choice
    assert choice.judged_by == "agreement"
    assert [row.score for row in choice.rows] == [None, None]
    assert choice.taken == "int8"  # smaller, and everything is allowed


def test_the_float_file_is_chosen_if_no_candidate_passes_the_gate() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,), name="x"), L.Dense(5), L.Dense(1)])
    x = np.random.default_rng(0).normal(size=(60, 6)).astype("float32")
    found = choose(model, Options(calibration=x), candidates=["int8"], max_drop=1e-6, runs=3)
    assert found.report.choice.judged_by == "error"
    assert found.report.scheme == "float32"
    assert found.report.choice.rows[1].reason.startswith("loses ")


def test_a_scheme_that_fails_to_convert_has_a_row_with_the_reason() -> None:
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((None, 3), name="x")
    model = keras.Model(inputs, L.Dense(2)(L.LSTM(4)(x)))
    samples = np.random.default_rng(0).normal(size=(8, 5, 3)).astype("float32")
    found = choose(model, Options(calibration=samples), candidates=["int8"], runs=3)
    row = found.report.choice.rows[1]
    assert (row.scheme, row.passed, row.ratio) == ("int8", False, None)
    assert row.reason.startswith("failed: ")


@pytest.mark.parametrize(
    ("options", "chosen_by", "message"),
    [
        ({}, {"prefer": "speed"}, "prefer: unknown value 'speed'"),
        ({}, {"max_drop": -1}, "max_drop: expected a number >= 0"),
        ({"calibration": None}, {}, "scheme 'auto' needs samples"),
        ({}, {"candidates": "int8"}, "candidates: expected a list"),
        ({}, {"candidates": ["int9"]}, "unknown scheme 'int9'"),
        ({"io": "int16"}, {}, "io: these candidates allow float32, int8"),
        ({}, {"device": "toaster"}, "unknown device"),
        ({}, {"runs": 0}, "runs: expected a whole number"),
        ({"time_limit_s": 0}, {}, "time_limit_s: expected a positive number"),
    ],
)
def test_wrong_options_are_refused_before_any_work(
    convnet, images, options, chosen_by, message
) -> None:
    options = Options(**{"calibration": images, **options})
    with pytest.raises(OptionError, match=message):
        choose(convnet, options, **chosen_by)


@pytest.mark.parametrize(
    "option", [{"prefer": "size"}, {"max_drop": 0.1}, {"data": (np.zeros(1), np.zeros(1))}]
)
def test_options_of_auto_are_refused_for_other_schemes(convnet, option) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(option))}: only for scheme 'auto'"):
        to_tflite(convnet, **option)


def test_layers_cannot_be_chosen_one_by_one(convnet, images) -> None:
    with pytest.raises(OptionError, match="layers: scheme 'auto' applies to the whole model"):
        to_tflite(convnet, scheme="auto", calibration=images, layers={"conv": "float32"})


def transformer() -> keras.Model:
    """Two blocks of attention over 64 vectors of 64 numbers."""
    inputs = x = keras.Input((64, 64), name="vectors")
    for _ in range(2):
        normal = L.LayerNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(4, 16)(normal, normal)])
        wide = L.Dense(256, activation="relu")(L.LayerNormalization()(x))
        x = L.Add()([x, L.Dense(64)(wide)])
    return keras.Model(inputs, L.Dense(10)(L.GlobalAveragePooling1D()(x)), name="attention")


def settled(model: keras.Model, samples: np.ndarray) -> keras.Model:
    """Give BatchNormalization the statistics that the samples have, so that nothing explodes."""
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.momentum = 0.0
    model(samples, training=True)
    return model


def chosen_for(model: keras.Model, samples: np.ndarray) -> str:
    # Weights are random, so classes are near each other and agreement says little: what is asked
    # is which file is the fastest of those that are right.
    file = to_tflite(model, scheme="auto", calibration=samples, max_drop=1.0, batch=1)
    return file.report.scheme


# Of full size, where the schemes lie far apart. In a net as small as MobileNetV2 0.35 at 96 pixels
# dynamic and int8 are within a few percent of each other, and which wins depends on the machine.
@pytest.mark.slow
def test_int8_is_chosen_for_a_mobile_net() -> None:
    keras.utils.set_random_seed(0)
    image = np.random.default_rng(0).uniform(-1, 1, (16, 224, 224, 3)).astype("float32")
    mobile = keras.applications.MobileNetV2(weights=None)
    assert chosen_for(settled(mobile, image), image) == "int8"


@pytest.mark.slow
def test_int8_is_not_chosen_for_a_transformer() -> None:
    keras.utils.set_random_seed(0)
    vectors = np.random.default_rng(0).normal(size=(64, 64, 64)).astype("float32")
    assert chosen_for(transformer(), vectors) != "int8"


@pytest.mark.exhaustive
def test_int8_is_chosen_for_a_resnet() -> None:
    keras.utils.set_random_seed(0)
    image = np.random.default_rng(0).uniform(-1, 1, (16, 224, 224, 3)).astype("float32")
    assert chosen_for(settled(keras.applications.ResNet50(weights=None), image), image) == "int8"


class Two(keras.Model):
    def __init__(self):
        super().__init__()
        self.table = L.Embedding(9, 4)
        self.dense = L.Dense(3)

    def call(self, inputs):
        words, numbers = inputs
        return self.dense(keras.ops.mean(self.table(words), 1) + numbers)


def test_a_subclassed_model_is_called_as_it_takes_its_inputs() -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 9, (40, 5)).astype("int32"), rng.normal(size=(40, 4)).astype("float32")
    model = Two()
    model([part[:1] for part in data])
    found = choose(model, Options(calibration=list(data)), candidates=["float16"], runs=3)
    assert [spec.dtype for spec in found.report.inputs] == ["int32", "float32"]


@pytest.mark.parametrize(("units", "judged"), [(1, "agreement"), (4, "agreement")])
def test_outputs_that_are_decisions_are_judged_by_agreement(units, judged) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,), name="x")
    scores = L.Dense(units)(inputs)
    model = keras.Model(inputs, {"high": scores > 0, "top": keras.ops.argmax(scores, -1)})
    x = np.random.default_rng(0).normal(size=(60, 6)).astype("float32")
    choice = choose(model, Options(calibration=x), candidates=["float16"], runs=3).report.choice
    assert choice.judged_by == judged
    assert choice.rows[1].drop <= 0.05


def test_a_regression_is_judged_by_its_error() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), L.Dense(8, "relu"), L.Dense(1)])
    x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    y = model.predict(x, verbose=0) + 0.1
    artifact = choose(
        model, Options(calibration=x), data=(x, y), task="regression", runs=3, candidates=["int8"]
    )
    choice = artifact.report.choice
    base, int8 = choice.rows
    assert (choice.judged_by, choice.higher_is_better) == ("MAE", False)
    assert base.score == pytest.approx(0.1, rel=1e-3)
    assert int8.drop == pytest.approx(int8.score - base.score)
    assert choice.max_drop == pytest.approx(0.01 * base.score)
    assert dict(zip(choice.columns, choice.cells[1], strict=True))["MAE"] == f"{int8.drop:+.4f}"
