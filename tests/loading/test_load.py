"""Loading models: whole files of either generation load, all others are refused with one line."""

import json
import resource
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tf_keras
from tf_keras.protobuf import saved_metadata_pb2

import tfprune
from tests.loading.damage import damaged_models, rewrite_archive
from tfprune.errors import ArtifactError, ModelError, OptionError, TfpruneError
from tfprune.loading.load import load_as_far_as_plain, load_model


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="d")])


@pytest.fixture(scope="module")
def old_model() -> Any:
    m = tf_keras.layers
    image = tf_keras.Input((8, 8, 3))
    x = m.BatchNormalization()(m.DepthwiseConv2D(3, name="depthwise")(image))
    x = m.Concatenate()([m.LeakyReLU(0.1)(x), m.ReLU(6.0)(x)])
    model = tf_keras.Model(image, m.Dense(2, name="d")(m.Flatten()(x)))
    numbers = np.random.default_rng(0)
    model.set_weights([numbers.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    model.compile("adam", "mse")
    return model


def save(model: Any, path: Path) -> Path:
    """Save without the advice to use another format."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file", UserWarning)
        model.save(path)
    return path


def assert_loads_as(old: Any, path: Path) -> keras.Model:
    new = load_model(path)
    assert isinstance(new, keras.Model)
    x = np.random.default_rng(1).random((2, *old.input_shape[1:]), "float32")
    np.testing.assert_allclose(new(x), old(x), rtol=1e-5, atol=1e-6)
    return new


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_whole_file_loads(model: keras.Model, suffix: str, tmp_path: Path) -> None:
    path = save(model, tmp_path / f"m{suffix}")
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(load_model(path)(x), model(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["m.h5", "m.keras", "m"])
def test_a_keras_2_file_is_converted(old_model: Any, name: str, tmp_path: Path) -> None:
    new = assert_loads_as(old_model, save(old_model, tmp_path / name))
    assert [layer.name for layer in new.layers] == [layer.name for layer in old_model.layers]
    assert tfprune.sparsity_of(new).sparsity == 0


def test_groups_and_batch_input_shape_are_in_the_files_that_load(
    old_model: Any, tmp_path: Path
) -> None:
    """The files have what the loader of Keras 3 refuses."""
    path = save(old_model, tmp_path / "m.h5")
    with h5py.File(path) as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
    assert "batch_input_shape" in layers[0]["config"]
    assert layers[1]["config"]["groups"] == 1
    with pytest.raises((ValueError, TypeError), match="groups"):
        keras.saving.load_model(path, compile=False)


@pytest.mark.parametrize(
    ("version", "home"), [("2.15.0", "keras.src.engine"), ("2.12.0", "keras.engine")]
)
def test_archives_from_before_tf_keras_had_its_name(
    old_model: Any, version: str, home: str, tmp_path: Path
) -> None:
    path = save(old_model, tmp_path / "m.keras")
    rewrite_archive(path, version, lambda text: text.replace("tf_keras.src.engine", home))
    with zipfile.ZipFile(path) as archive:
        assert home + ".functional" in archive.read("config.json").decode()
    assert_loads_as(old_model, path)


def plain_objects(value: Any) -> Any:
    """Return a config as Keras wrote it before 2.11: objects without their modules."""
    if isinstance(value, list):
        return [plain_objects(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {k: plain_objects(v) for k, v in value.items() if k not in ("module", "optional")}
    if "class_name" in kept:
        kept.pop("registered_name", None)
    return kept


@pytest.mark.parametrize("version", ["2.1.6", "2.4.0", "2.15.0", None])
def test_h5_files_from_all_of_keras_2(old_model: Any, version: str | None, tmp_path: Path) -> None:
    path = save(old_model, tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        config = plain_objects(json.loads(file.attrs["model_config"]))
        if version == "2.1.6":  # a functional model was a Model then, and nothing was ragged
            config["class_name"] = "Model"
            for layer in config["config"]["layers"]:
                layer["config"].pop("ragged", None)
        file.attrs["model_config"] = json.dumps(config).encode()
        del file.attrs["keras_version"]
        if version:
            file.attrs["keras_version"] = version.encode()
    assert_loads_as(old_model, path)


def test_a_sequential_model_of_early_keras_2_was_a_list(tmp_path: Path) -> None:
    m = tf_keras.layers
    old = tf_keras.Sequential([m.InputLayer((6,)), m.Dense(4), m.ReLU(), m.Dense(2)])
    path = save(old, tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        layers = plain_objects(json.loads(file.attrs["model_config"]))["config"]["layers"][1:]
        layers[0]["config"]["batch_input_shape"] = [None, 6]
        config = {"class_name": "Sequential", "config": layers}
        file.attrs["model_config"] = json.dumps(config).encode()
        file.attrs["keras_version"] = b"2.0.8"
    new = assert_loads_as(old, path)
    assert isinstance(new, keras.Sequential)


def test_a_keras_1_file_is_refused(old_model: Any, tmp_path: Path) -> None:
    path = save(old_model, tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        file.attrs["keras_version"] = b"1.2.2"
    with pytest.raises(
        ArtifactError, match=r"written by Keras 1\.2\.2; only 2 and 3 are supported"
    ):
        load_model(path)


def test_a_layer_that_keras_3_lacks_is_named(tmp_path: Path) -> None:
    m = tf_keras.layers
    old = tf_keras.Sequential([m.InputLayer((6, 2)), m.LocallyConnected1D(3, 2, name="local")])
    with pytest.raises(ModelError, match="'local' .*keras has no layer LocallyConnected1D"):
        load_model(save(old, tmp_path / "m.h5"))


def test_a_loaded_model_has_the_same_weights_and_can_be_pruned(
    old_model: Any, tmp_path: Path
) -> None:
    new = load_model(save(old_model, tmp_path / "m.h5"))
    for a, b in zip(old_model.get_weights(), new.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    new.compile("sgd", "mse")
    new.fit(np.ones((4, 8, 8, 3)), np.ones((4, 2)), verbose=0)


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("generation", [2, 3])
def test_a_truncated_file_is_refused(
    model: keras.Model, old_model: Any, generation: int, suffix: str, part: float, tmp_path: Path
) -> None:
    path = save(model if generation == 3 else old_model, tmp_path / f"m{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ArtifactError) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_damaged_archive_is_refused(model: keras.Model, tmp_path: Path) -> None:
    path = save(model, tmp_path / "m.keras")
    content = bytearray(path.read_bytes())
    where = content.index(b"\x89HDF")
    content[where : where + 8] = b"\0" * 8
    path.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=r"model\.weights\.h5 inside it is damaged"):
        load_model(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["saved_model.pb", "keras_metadata.pb", "variables/variables.index"]
)
def test_a_damaged_folder_is_refused(old_model: Any, name: str, tmp_path: Path) -> None:
    path = save(old_model, tmp_path / "m")
    part = path / name
    part.write_bytes(part.read_bytes()[: part.stat().st_size // 2])
    with pytest.raises(ArtifactError) as error:
        load_model(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_graph_without_layers_is_refused(model: keras.Model, tmp_path: Path) -> None:
    model.export(tmp_path / "graph", verbose=False)
    with pytest.raises(ArtifactError, match="a SavedModel without Keras layers .* as .keras"):
        load_model(tmp_path / "graph")


def test_what_is_no_model_is_refused(model: keras.Model, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="path: expected a file name. Received None"):
        load_model(None)
    with pytest.raises(ArtifactError, match="no such file"):
        load_model(tmp_path / "gone.keras")
    with pytest.raises(ArtifactError, match=r"a folder without saved_model\.pb"):
        load_model(tmp_path)
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    (tmp_path / "x.npz").rename(tmp_path / "x.keras")
    with pytest.raises(ArtifactError, match=r"no config\.json inside"):
        load_model(tmp_path / "x.keras")
    (tmp_path / "x.pt").write_bytes(b"PK")
    with pytest.raises(ArtifactError, match="expected a name ending in"):
        load_model(tmp_path / "x.pt")
    (tmp_path / "x.h5").write_bytes(b"PK")
    with pytest.raises(ArtifactError, match="not an HDF5 file"):
        load_model(tmp_path / "x.h5")
    model.save_weights(tmp_path / "only.weights.h5")
    with pytest.raises(ArtifactError, match="contains weights without a model"):
        load_model(tmp_path / "only.weights.h5")


def with_lambda(api: Any) -> Any:
    m = api.layers
    start = keras.Input((4,)) if api is keras else m.InputLayer((4,))
    return api.Sequential([start, m.Lambda(lambda x: x + 1, name="f"), m.Dense(2)])


@pytest.mark.parametrize(
    ("api", "name"),
    [(keras, "m.keras"), (keras, "m.h5"), (tf_keras, "m.keras"), (tf_keras, "m.h5"),
     (tf_keras, "m")],
)  # fmt: skip
def test_code_inside_of_a_file_is_not_run(api: Any, name: str, tmp_path: Path) -> None:
    path = save(with_lambda(api), tmp_path / name)
    with pytest.raises(ArtifactError, match="the Lambda layer 'f'.*allow_code=True") as error:
        load_model(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_runs_with_allow_code(suffix: str, tmp_path: Path) -> None:
    model = with_lambda(keras)
    loaded = load_model(save(model, tmp_path / f"m{suffix}"), allow_code=True)
    x = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("api", [keras, tf_keras])
def test_a_class_that_would_have_to_be_imported_is_refused(
    api: Any, old_model: Any, model: keras.Model, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "payload_module.py").write_text(f"open({str(marker)!r}, 'w').close()")
    path = save(model if api is keras else old_model, tmp_path / "m.keras")
    version = "3.15.1" if api is keras else "2.15.0"
    old, new = (
        '"module": "keras.layers", "class_name": "Dense"',
        ('"module": "payload_module", "class_name": "Dense"'),
    )
    rewrite_archive(path, version, lambda text: text.replace(old, new))
    with pytest.raises(ArtifactError, match=r"the class payload_module\.Dense"):
        load_model(path)
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore::UserWarning")  # What Keras says of what it could not restore.
def test_damaged_files_load_or_are_refused_with_one_line(
    model: keras.Model, old_model: Any, tmp_path: Path
) -> None:
    sources = []
    for name, one in (("new", model), ("old", old_model)):
        sources += [save(one, tmp_path / f"{name}{suffix}") for suffix in (".keras", ".h5")]
    folder = tmp_path / "mutants"
    folder.mkdir()
    refused = []
    for path in damaged_models(sources, 60, folder):
        try:
            load_model(path)
        except TfpruneError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert not [message for message in refused if "\n" in message]


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.slow
def test_layers_of_tfprune_load_in_a_process_that_has_not_used_them(
    suffix: str, tmp_path: Path
) -> None:
    """Gates are saved between training and shrinking, often in another process."""
    inputs = keras.Input((4,))
    x = tfprune.layers.ChannelGate("l1", 0.1)(keras.layers.Dense(3)(inputs))
    path = tmp_path / f"gated{suffix}"
    keras.Model(inputs, x).save(path)
    code = f"import tfprune; print(type(tfprune.load_model({str(path)!r}).layers[-1]).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "ChannelGate", done.stderr


@pytest.mark.parametrize("api", [keras, tf_keras])
def test_a_file_written_on_windows_loads(api: Any, model: keras.Model, tmp_path: Path) -> None:
    """There the path of a weight is joined by backslashes, and the archive keeps it."""
    m = api.layers
    made = api.Sequential([m.Input((4,)), m.Dense(3), m.BatchNormalization(), m.Dense(2)])
    path = save(made, tmp_path / "m.keras")
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    weights = tmp_path / "w.h5"
    weights.write_bytes(content["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        groups = [name for name in groups_of(file) if name.endswith("/vars")]
        tops = {name.partition("/")[0] for name in groups}
        for name in groups:
            file.move(name, f"{name.removesuffix('/vars').replace('/', chr(92))}/vars")
        for name in tops:
            del file[name]
        assert [name for name in file if "\\" in name]
    content["model.weights.h5"] = weights.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    loaded = load_model(path)
    for a, b in zip(made.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def groups_of(file: h5py.File) -> list[str]:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Group) else None)
    return names


HUGE = {
    "units": ('"units": 3', '"units": 300000000'),
    "inputs": ("[null, 4]", "[null, 400000000]"),
}


@pytest.mark.parametrize("kind", HUGE)
@pytest.mark.parametrize(
    ("api", "name"),
    [(keras, "m.keras"), (keras, "m.h5"), (tf_keras, "m.keras"), (tf_keras, "m.h5"),
     (tf_keras, "m")],
)  # fmt: skip
def test_a_file_that_declares_more_than_it_stores_is_refused_before_memory_is_allocated(
    api: Any, name: str, kind: str, tmp_path: Path
) -> None:
    made = api.Sequential([api.layers.Input((4,)), api.layers.Dense(3)])
    path = save(made, tmp_path / name)
    change(path, *HUGE[kind])
    before = peak_megabytes()
    with pytest.raises(ArtifactError, match="declares weights of .* or more"):
        load_model(path)
    assert peak_megabytes() < before + 500


def peak_megabytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def change(path: Path, old: str, new: str) -> None:
    """Change the config in a model file."""

    def swap(text: str) -> str:
        for _ in range(2):
            text = text.replace(old, new)
        assert new in text
        return text

    if path.is_dir():
        metadata = saved_metadata_pb2.SavedMetadata()
        metadata.ParseFromString((path / "keras_metadata.pb").read_bytes())
        plain = metadata.nodes[0].metadata.replace(
            '{"class_name": "__tuple__", "items": [null, 4]}', "[null, 4]"
        )
        metadata.nodes[0].metadata = swap(plain)
        (path / "keras_metadata.pb").write_bytes(metadata.SerializeToString())
    elif path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = swap(file.attrs["model_config"])
    else:
        with zipfile.ZipFile(path) as archive:
            version = json.loads(archive.read("metadata.json"))["keras_version"]
        rewrite_archive(path, version, swap)


@pytest.mark.parametrize(
    "layers",
    [
        lambda m: [m.RepeatVector(300_000_000)],
        lambda m: [m.CategoryEncoding(300_000_000, output_mode="multi_hot")],
        lambda m: [m.Reshape((2, 2, 1)), m.UpSampling2D(4000), m.UpSampling2D(4000)],
    ],
)
def test_arrays_too_large_to_be_compared_are_refused(layers: Any, tmp_path: Path) -> None:
    m = tf_keras.layers
    path = save(tf_keras.Sequential([m.Input((4,)), *layers(m)]), tmp_path / "m.h5")
    with pytest.raises(TfpruneError, match="creates an array of shape") as error:
        load_model(path)
    assert "\n" not in str(error.value)


def test_an_archive_that_unpacks_to_far_more_is_refused(model: keras.Model, tmp_path: Path) -> None:
    path = save(model, tmp_path / "m.keras")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("assets/zeros", bytes(80 << 20))
    with pytest.raises(ArtifactError, match="bytes that unpack to 8"):
        load_model(path)
    path = save(model, tmp_path / "n.keras")
    rewrite_archive(path, "3.15.1", lambda text: text + " " * (33 << 20))
    with pytest.raises(ArtifactError, match=r"config\.json inside it has .* are allowed"):
        load_model(path)


def test_weights_that_lie_in_another_file_are_refused(model: keras.Model, tmp_path: Path) -> None:
    """Its content would be in the model, for everyone who gets the model."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"0123456789ab")
    path = save(model, tmp_path / "m.h5")
    with h5py.File(path, "r+") as file:
        file.create_dataset("model_weights/d/x", (3,), "f4", external=[(str(secret), 0, 12)])
    with pytest.raises(ArtifactError, match="model_weights/d/x is in another file"):
        load_model(path)


def own_loss(labels: Any, outputs: Any) -> Any:
    return keras.ops.mean(keras.ops.abs(labels - outputs), axis=-1)


@pytest.mark.parametrize(
    ("name", "said"),
    [("m.keras", "compiled with code (the function 'own_loss'), which is not loaded"),
     ("m.h5", "what it is compiled with was left out")],
)  # fmt: skip
def test_a_loss_that_is_code_is_left_out_where_nothing_reads_it(
    name: str, said: str, model: keras.Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x = np.ones((2, 4), np.float32)
    model.compile("adam", own_loss)
    model.save(tmp_path / name)
    with pytest.raises(ArtifactError):
        load_model(tmp_path / name)
    found = load_as_far_as_plain(tmp_path / name)
    assert not found.compiled
    np.testing.assert_array_equal(found(x), model(x))
    (message,) = [record.getMessage() for record in caplog.records if record.name == "tfprune"]
    assert said in message


def test_a_plain_loss_is_kept(model: keras.Model, tmp_path: Path) -> None:
    model.compile("adam", "mse")
    model.save(tmp_path / "m.keras")
    assert load_as_far_as_plain(tmp_path / "m.keras").compiled


def test_code_in_a_layer_is_refused_however_the_model_is_compiled(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ArtifactError, match="contains code that loading would run"):
        load_as_far_as_plain(tmp_path / "m.keras")


def test_operations_in_a_file_of_keras_3_are_no_code(tmp_path: Path) -> None:
    x = keras.Input((4,))
    model = keras.Model(x, keras.layers.Dense(2)(2.0 * keras.ops.sin(x) * x))
    model.save(tmp_path / "m.keras")
    inputs = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(load_model(tmp_path / "m.keras")(inputs), model(inputs))
