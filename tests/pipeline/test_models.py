"""Models that a recipe names."""

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from tfprune.errors import ArtifactError, DataError, ModelError, OptionError
from tfprune.pipeline.datasets import as_dataset
from tfprune.pipeline.models import (
    BUILDERS,
    build_model,
    check_model,
    file_shape,
    with_known_outputs,
)
from tfprune.recipe import ModelTable, QuantizeTable

SHAPE = (8, 8, 1)


@pytest.mark.parametrize("name", list(BUILDERS))
def test_a_built_in_model_fits_the_data(name: str) -> None:
    given = {"lstm": (8,)}.get(name, SHAPE)
    model = build_model(ModelTable(name), given, 7)
    shape = {"autoencoder": SHAPE, "unet": (8, 8, 7)}.get(name, (7,))
    assert model(np.zeros((2, *given), np.float32)).shape == (2, *shape)


def test_an_lstm_takes_sequences_of_tokens() -> None:
    model = build_model(ModelTable("lstm", options={"words": 20, "width": 8}), (6,), 3)
    assert model.get_layer("embedding").input_dim == 20
    filled = np.array([[1, 2, 0, 0, 0, 0], [1, 2, 0, 3, 0, 0]], np.int32)
    found = np.asarray(model(filled))
    assert np.abs(found[0] - found[1]).max() > 1e-6
    with pytest.raises(ModelError, match="lstm takes sequences of tokens; the data has examples"):
        build_model(ModelTable("lstm"), SHAPE, 3)


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.first, self.last = keras.layers.Dense(8, "relu"), keras.layers.Dense(2)

    def call(self, x):
        return self.last(self.first(x))


def test_a_subclassed_model_in_a_file_becomes_a_functional_one(tmp_path: Path) -> None:
    model = Subclassed()
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = np.asarray(model(x))
    model.compile("sgd", "mse", metrics=["mae"])
    model.save(tmp_path / "m.keras")
    found = build_model(ModelTable(str(tmp_path / "m.keras")), SHAPE, 2)
    assert [tuple(out.shape) for out in found.outputs] == [(None, 2)]
    np.testing.assert_allclose(np.asarray(found(x)), expected, atol=1e-6)
    assert isinstance(found.optimizer, keras.optimizers.SGD)
    whole = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    assert with_known_outputs(whole) is whole


@pytest.mark.parametrize("name", ["attention", "convnet", "mlp"])
def test_a_built_in_model_has_an_output_for_each_part_of_a_task(name: str) -> None:
    model = build_model(ModelTable(name), SHAPE, {"digit": 7, "box": 2})
    found = model(np.zeros((3, *SHAPE), np.float32))
    assert {key: tuple(x.shape) for key, x in found.items()} == {"digit": (3, 7), "box": (3, 2)}
    assert set(model.output_names) == {"digit", "box"}


def test_several_inputs_are_joined_by_mlp_only() -> None:
    shapes = {"past": (4, 2), "calendar": (3,)}
    model = build_model(ModelTable("mlp"), shapes, 5)
    assert {name: x.shape for name, x in model.input.items()} == {
        name: (None, *shape) for name, shape in shapes.items()
    }
    assert model.output_shape == (None, 5)
    both = build_model(ModelTable("mlp"), shapes, {"a": 5, "b": 2})
    assert both.output_names == ["a", "b"]
    for source in ("convnet", "autoencoder", "keras.applications.MobileNetV2"):
        with pytest.raises(ModelError, match=f"{source} takes one input; the data has 2. Use mlp"):
            build_model(ModelTable(source), shapes, 5)
    with pytest.raises(ModelError, match="mlp takes one input; the data has 2. .* in a dict"):
        build_model(ModelTable("mlp"), [(4,), (3,)], 5)


def test_unet_names_the_sizes_it_takes() -> None:
    with pytest.raises(ModelError, match=r"multiples of 4. Received \(6, 8, 1\)"):
        build_model(ModelTable("unet"), (6, 8, 1), 2)


@pytest.mark.parametrize("name", list(BUILDERS))
def test_width_is_an_option_and_others_are_refused_by_name(name: str) -> None:
    given = {"lstm": (8,)}.get(name, SHAPE)
    small = build_model(ModelTable(name, options={"width": 8}), given, 7)
    assert small.count_params() < build_model(ModelTable(name), given, 7).count_params()
    with pytest.raises(OptionError, match=f"{name} has no 'widht'. .*Did you mean width"):
        build_model(ModelTable(name, options={"widht": 8}), given, 7)


def test_convnet_has_the_parameters_that_hand_arithmetic_gives() -> None:
    convolutions = (9 * 1 * 32 + 32) + (9 * 32 * 64 + 64) + (9 * 64 * 64 + 64)
    dense = (2 * 2 * 64 * 256 + 256) + (256 * 10 + 10)
    assert build_model(ModelTable("convnet"), SHAPE, 10).count_params() == convolutions + dense


def test_attention_knows_the_order_of_the_rows() -> None:
    model = build_model(ModelTable("attention"), SHAPE, 7)
    x = np.random.default_rng(0).random((1, *SHAPE), np.float32)
    assert np.abs(model(x) - model(x[:, ::-1])).max() > 1e-3


def test_for_flat_data_the_error_names_mlp() -> None:
    with pytest.raises(ModelError, match=r"takes images .*the data has shape \(64,\)\. .*mlp"):
        build_model(ModelTable("convnet"), (64,), 10)
    assert build_model(ModelTable("mlp"), (64,), 10).output_shape == (None, 10)


def test_attention_names_the_width_that_its_heads_need() -> None:
    with pytest.raises(OptionError, match="width = 30 is not a multiple of heads = 4"):
        build_model(ModelTable("attention", options={"width": 30}), SHAPE, 10)


def test_applications_are_fitted_to_the_data() -> None:
    source = "keras.applications.MobileNetV2"
    model = build_model(ModelTable(source, options={"alpha": 0.35}), (32, 32, 3), 4)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 4)
    with pytest.raises(OptionError, match="Did you mean MobileNetV2"):
        build_model(ModelTable("keras.applications.MobilNetV2"), (32, 32, 3), 4)
    with pytest.raises(ModelError, match=r"examples of shape \(8, 8, 1\)"):
        build_model(ModelTable(source), SHAPE, 4)


def test_files_and_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.keras"
    model = build_model(ModelTable("mlp"), SHAPE, 3)
    model.save(path)
    loaded = build_model(ModelTable(str(path)), SHAPE, 3)
    x = np.ones((1, *SHAPE), np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))
    with pytest.raises(ArtifactError):
        build_model(ModelTable(str(tmp_path / "gone.keras")), SHAPE, 3)
    (tmp_path / "my_zoo_module.py").write_text(
        "from tfprune.pipeline.models import BUILDERS\n"
        "def make(width): return BUILDERS['mlp']((8, 8, 1), 3, width)\n"
        "def wrong(): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = build_model(ModelTable("my_zoo_module:make", options={"width": 4}), SHAPE, 3)
    assert made.output_shape == (None, 3)
    with pytest.raises(ModelError, match="returned int, not a"):
        build_model(ModelTable("my_zoo_module:wrong"), SHAPE, 3)


def test_weights_that_lie_in_another_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file["layer"] = h5py.ExternalLink("elsewhere.h5", "/")
    table = ModelTable(source="keras.applications.MobileNet", weights=str(path))
    with pytest.raises(ArtifactError, match="layer is a link to another file"):
        build_model(table, (32, 32, 3), 10)
    table = ModelTable(source="keras.applications.MobileNet", weights=str(tmp_path / "w.keras"))
    (tmp_path / "w.keras").touch()
    with pytest.raises(ArtifactError, match=r"whose name ends in \.h5"):
        build_model(table, (32, 32, 3), 10)


def test_a_token_beyond_the_table_is_told_before_training() -> None:
    tokens = np.arange(24).reshape(6, 4) % 21
    data = as_dataset(((tokens, np.arange(6) % 2),) * 2, validation=0)
    model = build_model(ModelTable("lstm", options={"words": 21, "width": 4}), (4,), 2)
    check_model(model, data)
    model = build_model(ModelTable("lstm", options={"words": 20, "width": 4}), (4,), 2)
    said = "the train set has the token 20; layer 'embedding' of the model 'lstm' takes 0 to 19"
    with pytest.raises(DataError, match=said):
        check_model(model, data)


def test_sizes_that_a_model_leaves_open_are_those_of_the_examples() -> None:
    x = np.zeros((6, 12, 9, 1), np.float32)
    data = as_dataset(((x, np.arange(6) % 2),) * 2, validation=0)
    layers = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    free = keras.Sequential([keras.Input((None, None, 1)), *layers])
    assert file_shape(free, None, data) == (12, 9, 1)
    assert file_shape(free, QuantizeTable(input_shape=(8, 8, 1)), data) == (8, 8, 1)
    fixed = keras.Sequential([keras.Input((12, 9, 1)), *layers])
    assert file_shape(fixed, None, data) is None
