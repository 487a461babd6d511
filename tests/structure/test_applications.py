"""All forty models of keras.applications at half their width, by the same share everywhere.

`make slow` takes eight of them, `make exhaustive` the others.
"""

import gc
from pathlib import Path

import keras
import numpy as np
import pytest

import tfprune
from tfprune.structure.select.cost_meter import Meter

# Parameters when half of every group stays, counted independently of this package; None where
# no such count is at hand: there the width of every group is checked.
HALF = {
    "ConvNeXtBase": None,
    "ConvNeXtLarge": None,
    "ConvNeXtSmall": None,
    "ConvNeXtTiny": 7_438_360,
    "ConvNeXtXLarge": None,
    "DenseNet121": 2_316_552,
    "DenseNet169": None,
    "DenseNet201": None,
    "EfficientNetB0": 1_722_461,
    "EfficientNetB1": None,
    "EfficientNetB2": None,
    "EfficientNetB3": None,
    "EfficientNetB4": None,
    "EfficientNetB5": None,
    "EfficientNetB6": None,
    "EfficientNetB7": None,
    "EfficientNetV2B0": 2_183_888,
    "EfficientNetV2B1": None,
    "EfficientNetV2B2": None,
    "EfficientNetV2B3": None,
    "EfficientNetV2L": None,
    "EfficientNetV2M": None,
    "EfficientNetV2S": None,
    "InceptionResNetV2": 14_387_544,
    "InceptionV3": 6_488_824,
    "MobileNet": 1_342_536,
    "MobileNetV2": 1_238_824,
    "MobileNetV3Large": 1_734_408,
    "MobileNetV3Small": 917_280,
    "NASNetLarge": None,
    # Eight of its groups have eleven channels: six stay (with five and a half it is 1,686,406.25).
    "NASNetMobile": 1_686_838,
    "ResNet101": 11_757_736,
    "ResNet101V2": None,
    "ResNet152": None,
    "ResNet152V2": None,
    "ResNet50": 6_957_480,
    "ResNet50V2": 6_946_024,
    "VGG16": 35_617_672,
    "VGG19": None,
    "Xception": 6_319_708,
}
# One of each family is also converted and trained for a step.
FAMILIES = (
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "Xception",
)

# What `make slow` takes: one of each way to join and to normalize.
SAMPLE = (
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "InceptionV3",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50",
    "Xception",
)


def applications():
    """Every model as a parameter: those of SAMPLE of a slow test, the others of an exhaustive."""
    for name in HALF:
        mark = pytest.mark.slow if name in SAMPLE else pytest.mark.exhaustive
        yield pytest.param(name, marks=mark)


def build(name: str):
    """The model with random weights and the smallest input that it allows.

    VGG's first Dense layer and NASNet's cropping depend on the input, so these have their own.
    """
    side = 224 if name.startswith(("VGG", "NASNetMobile")) else 331 if name == "NASNetLarge" else 80
    options = {"weights": None, "input_shape": (side, side, 3)}
    return getattr(keras.applications, name)(**options)


def test_the_list_is_complete() -> None:
    known = {name for name in dir(keras.applications) if name[0].isupper()}
    assert set(HALF) == known
    assert len(HALF) == 40


@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV3Small"])
def test_half_counted_without_building(name: str) -> None:
    found = tfprune.units(build(name))
    removed = [group.units[len(group.units) // 2 :] for group in found]
    assert Meter(found).params(found.kept_mask(np.concatenate(removed))) == HALF[name]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", list(applications()))
def test_half_of_every_group(name: str, tmp_path: Path) -> None:
    model = build(name)
    found = tfprune.units(model)
    outputs = {line.layer for line in found.frozen}
    assert len(outputs) == 1, "only the classes stay"
    small, report = tfprune.shrink(
        model, {"channels": 0.5}, ranking="uniform", round_to=1, importance="l1"
    )
    assert report.error <= 1e-4
    assert report.exact is not name.startswith("ConvNeXt")
    if not report.exact:
        assert all("LayerNormalization" in reason for reason in report.reasons)
    for change in report.groups:
        assert change.after == round(change.before / 2)
    assert small.count_params() == report.after.params
    if HALF[name] is not None:
        assert small.count_params() == HALF[name]
    assert report.after.macs / report.before.macs < 0.32
    del model, found
    keras.backend.clear_session()
    gc.collect()
    path = tmp_path / "small.keras"
    small.save(path)
    loaded = keras.models.load_model(path)
    path.unlink()
    image = np.random.default_rng(0).uniform(size=(1, *small.input_shape[1:])).astype("float32")
    np.testing.assert_allclose(loaded(image), small(image), atol=1e-6)
    if name in FAMILIES:
        _converts_and_learns(small, image)
    del small, loaded
    keras.backend.clear_session()
    gc.collect()


def _converts_and_learns(small, image: np.ndarray) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=tfprune.to_tflite(small).bytes)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    out = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(out, small(image), atol=1e-4)
    before = [variable.numpy() for variable in small.trainable_variables]
    small.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    # Images that differ: batch normalization would give nothing for one that is there twice.
    images = np.concatenate([image, image[:, ::-1] ** 2, 1 - image, image[:, :, ::-1]])
    history = small.fit(images, np.arange(4), verbose=0)
    assert np.isfinite(history.history["loss"][0])
    # Far from the loss, of an untrained network, a gradient can be too small to be added.
    moved = [
        not np.array_equal(old, new.numpy())
        for old, new in zip(before, small.trainable_variables, strict=True)
    ]
    assert moved[-1]
    assert sum(moved) > len(moved) / 2
