"""No code in a model file runs: names that are not on the list are refused."""

import contextlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
import tf_keras

from tests.keras_release import KERAS
from tests.loading import payloads
from tfprune import cli
from tfprune.errors import ArtifactError, TfpruneError
from tfprune.loading.allowed import code_in
from tfprune.loading.load import load_model
from tfprune.pipeline import models
from tfprune.recipe.tables import ModelTable


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Path]:
    """A harmless file of every format of each generation."""
    folder = tmp_path_factory.mktemp("bases")
    found = {}
    for generation, api in ((2, tf_keras), (3, keras)):
        start = api.Input((4,), name="i")
        model = api.Model(start, api.layers.Dense(2, name="d")(start))
        for name in payloads.FORMATS[generation]:
            found[generation, name] = folder / f"{generation}{name}"
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "You are saving your model as an HDF5")
                model.save(found[generation, name])
    return found


def by_command(path: Path) -> None:
    assert cli.execute(cli.parse(["tfprune", "units", str(path)])) == cli.WRONG


def by_recipe(path: Path) -> None:
    with pytest.raises(ArtifactError):
        models.build_model(ModelTable(source=str(path)), (4,), 2)


def by_call(path: Path) -> None:
    with pytest.raises(ArtifactError) as error:
        load_model(path)
    assert "contains code that loading would run: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("generation", "name"), [(g, name) for g, names in payloads.FORMATS.items() for name in names]
)
def test_no_payload_runs_in_any_place_of_a_file(
    generation: int, name: str, bases: Any, tmp_path: Path, capsys: Any
) -> None:
    marker = tmp_path / "marker"
    base = bases[generation, name]
    entrances: list[Callable[[Path], None]] = [by_call, by_command, by_recipe]
    kinds = list(payloads.payloads(generation, marker))
    assert len({kind for kind, _ in kinds}) == len(kinds) >= 50
    for number, (kind, layer) in enumerate(kinds):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = payloads.write(folder, name, payloads.model(generation, layer), base)
        by_call(path)
        if path.suffix:  # a recipe names a file
            entrances[1 + number % 2](path)
        else:
            by_command(path)
        assert not marker.exists(), kind
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(("generation", "name"), [(2, "m.h5"), (2, "m.keras"), (3, "m.h5")])
def test_the_payloads_run_if_they_are_allowed(
    generation: int, name: str, bases: Any, tmp_path: Path
) -> None:
    if name == "m.h5" and generation == 3 and KERAS < (3, 12):
        pytest.skip(f"Keras {keras.__version__} reads no Lambda from .h5, whatever it is told")
    marker = tmp_path / "marker"
    kinds = dict(payloads.payloads(generation, marker))
    layer = kinds["TFOpLambda io.write_file" if generation == 2 else "Lambda"]
    path = payloads.write(
        tmp_path, name, payloads.model(generation, layer), bases[generation, name]
    )
    by_call(path)
    assert not marker.exists()
    with contextlib.suppress(TfpruneError):  # what it makes need be no model
        load_model(path, allow_code=True)
    assert marker.exists()


def test_the_compilation_of_a_model_is_checked_too(bases: Any, tmp_path: Path) -> None:
    function = {"class_name": "function", "module": "keras.models", "config": "load_model"}
    config = payloads.model(3, payloads.dense(3))
    compiled = {"optimizer": "adam", "loss": {**function, "registered_name": "load_model"}}
    by_call(
        payloads.write(
            tmp_path, "m.keras", {**config, "compile_config": compiled}, bases[3, "m.keras"]
        )
    )
    by_call(payloads.write(tmp_path, "m.h5", config, bases[3, "m.h5"], **compiled))


class Resource(tf.saved_model.experimental.TrackableResource):
    """What a SavedModel makes anew when its graph is restored."""

    def __init__(self, marker: str) -> None:
        super().__init__()
        self.marker = marker
        self._resource_handle = self._create_resource()

    def _create_resource(self) -> Any:
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

    def _initialize(self) -> None:
        tf.io.write_file(self.marker, "x")


@pytest.mark.parametrize("age", ["new", "old"])
def test_the_initializer_of_a_saved_model_is_not_run(age: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    start = tf_keras.Input((4,))
    model = tf_keras.Model(start, tf_keras.layers.Dense(2)(start))
    model.extra = Resource(str(marker))
    model.save(tmp_path / "m")
    if age == "old":
        payloads.make_old(tmp_path / "m")
    marker.unlink(missing_ok=True)
    loaded = load_model(tmp_path / "m")
    assert not marker.exists()
    x = tf.random.stateless_normal((3, 4), (0, 0))
    assert keras.ops.max(keras.ops.abs(loaded(x) - model(x))) < 1e-6
    load_model(tmp_path / "m", allow_code=True)
    assert marker.exists()


def test_a_registered_class_is_allowed_and_one_made_of_a_lambda_is_not() -> None:
    class Mine(keras.layers.Dense):
        pass

    class Disguised(keras.layers.Lambda):
        pass

    with keras.saving.custom_object_scope({"Mine": Mine, "Disguised": Disguised}):
        for name, faults in (("Mine", []), ("Disguised", ["the class Disguised"])):
            layer = {**payloads.dense(3), "class_name": name, "registered_name": name}
            assert list(code_in(payloads.model(3, layer))) == faults
        # The loaders of HDF5 go by the first name, those of archives by the second.
        two = {**payloads.dense(3), "class_name": "load_model", "registered_name": "Mine"}
        assert list(code_in(two)) == ["the class Mine"]
        other = {**payloads.dense(3), "class_name": "Lambda", "registered_name": "Mine"}
        assert list(code_in(other)) == ["the Lambda layer 'd'"]


def test_a_class_of_keras_is_not_allowed_by_the_path_of_another_module() -> None:
    layer = {**payloads.dense(3), "class_name": "TFSMLayer", "module": __name__}
    globals()["Dense2"] = keras.layers.Dense
    assert list(code_in(layer)) == ["the TFSMLayer layer 'd'"]
    assert list(code_in({**layer, "class_name": "Dense2"})) == [f"the class {__name__}.Dense2"]


def test_everything_that_keras_writes_is_on_the_list() -> None:
    for api, generation in ((tf_keras, 2), (keras, 3)):
        m = api.layers
        image = api.Input((8, 8, 3))
        x = m.Conv2D(4, 3, activation="swish", kernel_regularizer="l2")(image)
        x = m.Activation(api.activations.relu)(1.0 - x) + x[:, :1, :1]
        x = m.Bidirectional(m.GRU(3, bias_constraint="max_norm"))(m.Reshape((36, 4))(x))
        x = m.Dense(2, dtype="mixed_float16", kernel_initializer=api.initializers.HeNormal())(x)
        model = api.Model(image, x)
        model.compile(api.optimizers.Adam(), "mse", metrics=["accuracy", api.metrics.AUC()])
        config = json.loads(json.dumps(api.saving.serialize_keras_object(model)))
        assert list(code_in(config, generation)) == []
