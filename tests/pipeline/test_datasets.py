"""Data: what is read, what is refused with one line, how it is split."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.data.model_inputs import ModelInputs, OneInput
from tfprune.errors import DataError
from tfprune.pipeline.datasets import Dataset, as_dataset, check_for_model, load_data
from tfprune.recipe import DataTable
from tfprune.task.task import Task


def arrays(count: int = 20, test: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.random((count, 4), np.float32),
        "y_train": np.arange(count) % 3,
        "x_test": rng.random((test, 4), np.float32),
        "y_test": np.arange(test) % 3,
    }


def test_digits_are_split_reproducibly_and_without_overlap() -> None:
    one, two = load_data(DataTable("digits")), load_data(DataTable("digits"))
    assert one.fingerprint()[0] == two.fingerprint()[0]
    assert {name: len(split) for name, split in one.splits.items()} == {
        "train": 1213,
        "validation": 135,
        "test": 449,
    }
    assert one.input_shape == (8, 8, 1)
    assert one.classes == 10
    assert one.train.x.max() == 1.0
    assert load_data(DataTable("digits", seed=1)).fingerprint()[0] != one.fingerprint()[0]


@given(st.integers(2, 40), st.floats(0.01, 0.9), st.integers(0, 5))
def test_validation_takes_from_training_what_it_holds(count: int, part: float, seed: int) -> None:
    x = np.arange(count, dtype=np.float32)[:, None]
    y = np.zeros(count, int)
    if max(round(part * count), 1) >= count:
        with pytest.raises(DataError, match="too few"):
            as_dataset(((x, y), (x, y)), validation=part, seed=seed)
        return
    data = as_dataset(((x, y), (x, y)), validation=part, seed=seed)
    assert data.validation is not None
    assert len(data.validation) == max(round(part * count), 1)
    joined = np.concatenate([data.train.x, data.validation.x]).ravel()
    assert sorted(joined) == list(range(count))


def test_no_validation_is_put_aside_when_none_is_wanted_or_one_is_given() -> None:
    assert as_dataset(arrays(), validation=0).validation is None
    more = arrays() | {"x_validation": np.ones((2, 4)), "y_validation": [0, 1]}
    data = as_dataset(more)
    assert len(data.train) == 20
    assert data.validation is not None
    assert len(data.validation) == 2


def test_limit_takes_the_first_of_each() -> None:
    data = load_data(DataTable("digits", limit=7))
    assert [len(split) for split in data.splits.values()] == [7, 7, 7]


def test_one_hot_and_column_labels_become_class_numbers() -> None:
    given_arrays = arrays()
    one_hot = given_arrays | {"y_train": np.eye(3)[given_arrays["y_train"]]}
    column = given_arrays | {"y_train": given_arrays["y_train"][:, None].astype(float)}
    plain = as_dataset(given_arrays).fingerprint()[0]
    assert as_dataset(one_hot).fingerprint()[0] == plain
    assert as_dataset(column).fingerprint()[0] == plain


def test_scale_makes_bytes_into_fractions_and_tokens_stay() -> None:
    given_arrays = arrays() | {"x_train": np.full((20, 4), 255, np.uint8)}
    given_arrays["x_test"] = given_arrays["x_test"].astype(np.uint8)
    unscaled = as_dataset(given_arrays).train.x
    assert (unscaled.dtype, unscaled.max()) == (np.float32, 255)
    tokens = as_dataset(given_arrays | {"x_train": np.arange(80).reshape(20, 4)})
    assert tokens.train.x.dtype == np.int64
    scaled = as_dataset(given_arrays, scale=1 / 255).train.x
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, 1.0, rtol=1e-6)


def with_nan() -> dict[str, Any]:
    bad = arrays()
    bad["x_train"][17, 2] = np.nan
    return bad


def with_infinity() -> dict[str, Any]:
    bad = arrays()
    bad["x_test"][0] = np.inf
    return bad


def empty() -> dict[str, Any]:
    return arrays() | {"x_train": np.zeros((0, 4)), "y_train": np.zeros(0, int)}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (empty(), "data: the train set is empty: (0, 4) and (0,). Give at least one example."),
        (
            with_nan(),
            "data: the train set: examples hold NaN, 1 of 20 are not finite, the first is number "
            "17. Drop or fill them.",
        ),
        (with_infinity(), "data: the test set: examples hold infinity, 1 of 5 are"),
        (arrays() | {"y_test": np.array([0, 1, -2, 0, 1])}, "data: the test set has label -2 at "),
        (arrays() | {"y_test": np.full(5, 0.5)}, "data: the test set has label 0.5 at example 0"),
        (arrays() | {"y_test": np.full(5, np.nan)}, "data: the test set: labels hold NaN"),
        (arrays() | {"y_test": np.ones((5, 3))}, "data: the test set: labels of shape (5, 3) are"),
        (arrays() | {"y_test": np.zeros(4, int)}, "data: the test set: 5 examples but 4 labels."),
        (arrays() | {"x_test": np.zeros((5, 3))}, "data: the test set has examples of shape (3,)"),
        (arrays() | {"y_test": np.array(["a"] * 5)}, "data: the test set: labels of type <U1"),
        (arrays() | {"x_validation": np.ones((2, 4))}, "data: x_validation alone."),
        ({"x": 1}, "data: no array x_train, y_train, x_test, y_test. Found: x."),
        (3, "data: expected (train, test) or (train, validation, test)"),
        ([(1, 2, 3), (1, 2)], "data: the train set is empty: () and () and ()."),
    ],
)
def test_wrong_data_is_refused_in_one_line(bad: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        as_dataset(bad)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_data_that_does_not_fit_the_model_is_refused() -> None:
    def takes(shape: tuple[int | None, ...], dtype: str = "float32") -> ModelInputs:
        return ModelInputs((OneInput("x", (None, *shape), dtype),), 0)

    data = as_dataset(arrays())
    check_for_model(data, takes((4,)), 3, "the model")
    check_for_model(data, takes((None,)), 5, "the model")
    with pytest.raises(DataError, match=r"shape \(4,\), the model takes \(8, 8, 1\)"):
        check_for_model(data, takes((8, 8, 1)), 3, "the model")
    with pytest.raises(DataError, match=r"has label 2 at example \d+, the model has 2 outputs"):
        check_for_model(data, takes((4,)), 2, "the model")
    with pytest.raises(DataError, match="examples are float32, the model takes int32"):
        check_for_model(data, takes((4,), "int32"), 3, "the model")


def test_an_npz_is_read_without_unpickling(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    np.savez(path, **arrays())
    data = load_data(DataTable(str(path)))
    assert len(data.test) == 5
    assert data.name == f"[data] {path}"
    np.savez(path, **(arrays() | {"x_train": np.array([{}], dtype=object)}), allow_pickle=True)
    with pytest.raises(DataError, match=r"not a valid \.npz"):
        load_data(DataTable(str(path)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"not a valid \.npz"):
        load_data(DataTable(str(path)))
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"not a valid \.npz .* a single array without a name"):
        load_data(DataTable(str(path)))
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        load_data(DataTable(str(tmp_path / "gone.npz")))


def test_a_single_pair_without_a_test_set_is_refused() -> None:
    pair = np.zeros((9, 4), np.float32), np.zeros(9, int)
    with pytest.raises(
        DataError, match=r"one pair \(x, y\); give \(\(x, y\), \(x_test, y_test\)\)"
    ):
        as_dataset(pair)


def test_a_function_may_give_tf_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_data_module.py").write_text(
        "import numpy as np, tensorflow as tf\n"
        "def load():\n"
        "    x, y = np.arange(12, dtype='float32').reshape(6, 2), np.arange(6) % 2\n"
        "    whole = tf.data.Dataset.from_tensor_slices((x, y))\n"
        "    return whole.batch(4), whole\n"
        "def nothing():\n"
        "    return load()[0].take(0), load()[1]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    data = load_data(DataTable("my_data_module:load", validation=0.0))
    for split in (data.train, data.test):
        np.testing.assert_array_equal(split.head.x, np.arange(12).reshape(6, 2))
        np.testing.assert_array_equal(split.head.y, [0, 1, 0, 1, 0, 1])
    assert [split.steps(4) for split in (data.train, data.test)] == [2, 2]
    with pytest.raises(DataError, match="the train set is empty"):
        load_data(DataTable("my_data_module:nothing"))


def in_keras_home(home: Path, code: str) -> str:
    """Run code in a process whose keras.datasets live in `home` and which cannot go online."""
    nowhere = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", f"from tfprune.pipeline.datasets import *\n{code}"],
        env=os.environ | nowhere | {"KERAS_HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip().splitlines()[-1]


def test_a_download_that_fails_is_one_line(tmp_path: Path) -> None:
    code = """
try:
    load_data(DataTable("mnist"))
except DataError as error:
    print(error)
"""
    line = in_keras_home(tmp_path, code)
    assert line.startswith("[data] mnist: URL fetch failure on https://")
    assert line.endswith("Go online once, or give an .npz with x_train, y_train, x_test, y_test.")


@pytest.mark.data
@pytest.mark.slow
def test_keras_datasets_are_images_in_zero_to_one(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "fashion-mnist").symlink_to(data_dir / "fashion_mnist")
    code = """
data = load_data(DataTable("fashion_mnist"))
print([s.x.shape for s in data.splits.values()], data.train.x.dtype, data.train.x.max())
"""
    line = in_keras_home(tmp_path, code)
    assert line == "[(54000, 28, 28, 1), (6000, 28, 28, 1), (10000, 28, 28, 1)] float32 1.0"


def test_a_dataset_is_returned_unchanged() -> None:
    data = as_dataset(arrays())
    assert isinstance(data, Dataset)
    assert as_dataset(data) is data


def test_weights_and_several_inputs_are_sets_of_their_own() -> None:
    x = {"a": np.zeros((20, 4)), "b": np.zeros((20, 3), np.int32)}
    given = arrays() | {"x_train": x, "w_train": np.ones(20)}
    with pytest.raises(DataError, match=r"test set has examples of shape \(4,\), the train set of"):
        as_dataset(given)
    data = as_dataset(given | {"x_test": {name: part[:5] for name, part in x.items()}})
    assert data.input_shape == {"a": (4,), "b": (3,)}
    assert {name: part.dtype.name for name, part in data.train.x.items()} == {
        "a": "float32", "b": "int32",
    }  # fmt: skip
    assert len(data.train.w) == 18
    assert data.test.w is None


def test_mapped_arrays_are_split_and_checked_without_being_read(tmp_path: Path) -> None:
    given = arrays(100, 20)
    for name in ("x_train", "y_train"):
        np.save(tmp_path / f"{name}.npy", given[name])
        given[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
    data = as_dataset(given, validation=0.2)
    sets = [data.train, data.validation]
    assert [split.steps(1) for split in sets] == [80, 20]
    rows = np.concatenate([split.x for part in sets for split in part.batches()])
    assert len(np.unique(rows, axis=0)) == 100
    with pytest.raises(DataError, match="the train set: 100 examples but 20 labels"):
        as_dataset(given | {"y_train": given["y_test"]})


def test_a_stream_is_not_split_and_its_labels_are_converted() -> None:
    x, y = np.zeros((6, 4), np.float64), np.eye(3)[[0, 1, 2, 0, 1, 2]]
    data = as_dataset(([(x, y)], (x, y)))
    assert data.validation is None
    assert "a stream is not split" in data.notes[0]
    (batch,) = data.train.batches()
    np.testing.assert_array_equal(batch.y, [0, 1, 2, 0, 1, 2])
    assert batch.x.dtype == np.float32
    assert data.classes == 3
    assert as_dataset(([(x, y)], (x, y)), validation=0).notes == ()
    assert len(next(iter(data.first(2).train.batches())).y) == 2


def test_the_folders_of_images_name_the_classes(tmp_path: Path) -> None:
    import keras

    for number, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        image = np.full((4, 4, 3), 80 * number, np.uint8)
        keras.utils.save_img(tmp_path / name / "1.png", image, scale=False)
    images = keras.utils.image_dataset_from_directory(
        tmp_path, image_size=(4, 4), batch_size=1, shuffle=False, verbose=False
    )
    data = as_dataset((images, images), scale=1 / 255)
    assert data.input_shape == (4, 4, 3)
    assert data.train.head.x.max() == pytest.approx(160 / 255)
    assert data.first(1).classes == 1
    assert data.classes == 3


@pytest.mark.parametrize("part", [{"x": 1}, np.zeros((4, 2)), "train.npz", 3])
def test_what_is_no_set_is_refused(part: Any) -> None:
    pair = np.zeros((4, 2)), np.zeros(4)
    with pytest.raises(DataError, match="^data: the train set: "):
        as_dataset((part, pair))


def test_the_test_set_is_identified_by_what_was_given() -> None:
    given = arrays()
    same = as_dataset({**given, "x_train": 0 * given["x_train"]}).test_fingerprint()
    assert as_dataset(given).test_fingerprint() == same
    for key in ("x_test", "y_test"):
        other = as_dataset({**given, key: given[key][::-1]})
        assert other.test_fingerprint() != same
    one_hot = {key: np.eye(3)[given[key]] for key in ("y_train", "y_test")}
    assert as_dataset({**given, **one_hot}).test_fingerprint() != same


def test_a_model_of_bytes_gets_bytes() -> None:
    x = np.random.default_rng(0).integers(0, 256, (8, 4), dtype=np.uint8)
    data = as_dataset(((x, np.arange(8) % 2),) * 2, validation=0.25)
    assert data.train.x.dtype == np.float32
    takes = ModelInputs((OneInput("image", (None, 4), "uint8"),), 0)
    made = data.with_inputs(takes)
    assert {split.x.dtype for split in made.splits.values()} == {np.dtype("uint8")}
    np.testing.assert_array_equal(made.test.x, x)
    np.testing.assert_array_equal(made.for_task(Task("classification"), "").test.x, x)
    assert made.test_fingerprint() == data.test_fingerprint()
    floats = ModelInputs((OneInput("image", (None, 4), "float32"),), 0)
    assert data.with_inputs(floats) is data
    scaled = as_dataset(((x, np.arange(8) % 2),) * 2, validation=0, scale=1 / 255)
    with pytest.raises(DataError, match="the model takes uint8 for input 'image'.*unscaled"):
        scaled.with_inputs(takes)
