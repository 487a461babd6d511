"""Runs on data in every form that can be read again, and their memory, which does not grow."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tfprune.errors import DataError
from tfprune.loading.load import read_model
from tfprune.pipeline import check, compress
from tfprune.report import Gate

RNG = np.random.default_rng(0)
A = RNG.normal(size=(160, 6)).astype("float32")
B = RNG.normal(size=(160, 4, 3)).astype("float32")
Y = (A[:, 0] + B[:, 0, 0] > 0).astype("int64")
W = np.ones(160, "float32")
CUTS = [slice(start, start + 16) for start in range(0, 160, 16)]


def batches() -> Iterator[Any]:
    return (([A[cut], B[cut]], Y[cut]) for cut in CUTS)


class Pieces(keras.utils.PyDataset):
    def __len__(self) -> int:
        return len(CUTS)

    def __getitem__(self, index: int) -> Any:
        cut = CUTS[index]
        return {"a": A[cut], "b": B[cut]}, Y[cut], W[cut]


def mapped_into_memory(folder: Path) -> Any:
    for name, array in (("a", A), ("b", B), ("y", Y)):
        np.save(folder / f"{name}.npy", array)
    a, b, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "aby")
    return {"a": a, "b": b}, y


def tf_data(folder: Path) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(({"a": A, "b": B}, Y, W)).batch(16)


FORMS: dict[str, Callable[[Path], Any]] = {
    "arrays": lambda folder: ({"a": A, "b": B}, Y, W),
    "a function": lambda folder: batches,
    "a PyDataset": lambda folder: Pieces(),
    "tf.data": tf_data,
    "memory-mapped": mapped_into_memory,
}
RECIPE: dict[str, Any] = {
    "train": {"epochs": 3, "batch_size": 16, "learning_rate": 0.02},
    "quantize": {"scheme": "int8", "calibration": 50},
    "measure": {"runs": 2},
}
LONGER = {
    **RECIPE,
    "shrink": {"target": {"params": 0.7}, "importance": "taylor", "round_to": 2, "epochs": 1},
    "prune": {"sparsity": 0.5, "epochs": 2, "learning_rate": 0.02, "score": "taylor"},
}


def make() -> keras.Model:
    keras.utils.set_random_seed(0)
    a, b = keras.Input((6,), name="a"), keras.Input((4, 3), name="b")
    x = keras.layers.Concatenate(name="join")([a, keras.layers.Flatten(name="flat")(b)])
    x = keras.layers.Dense(16, "relu", name="hidden")(x)
    return keras.Model([a, b], keras.layers.Dense(2, name="out")(x), name="two")


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_every_form_goes_through_every_stage(form: str, tmp_path: Path) -> None:
    data = FORMS[form](tmp_path)
    result = compress(make(), LONGER, (data, data), out=tmp_path / "run")
    dense, small = result.report.rows
    assert min(dense.score, small.score) > 0.8
    assert result.report.samples == 160
    assert check(tmp_path / "run", data=data, limits=Gate(max_drop=0.5)).score == small.score
    resumed = compress(make(), LONGER, (data, data), out=tmp_path / "run", resume=True)
    assert resumed.report == result.report


def test_a_stream_is_trained_in_its_own_order(tmp_path: Path) -> None:
    result = compress(make(), RECIPE, (batches, batches), out=tmp_path / "run")
    notes = "\n".join(result.report.notes)
    assert "validation: none; give (train, validation, test), as a stream is not split" in notes
    assert (
        "train set: in its own batches of 16, identified by form, length and 160 samples" in notes
    )
    by_hand = make()
    rate = keras.optimizers.schedules.CosineDecay(0.02, 30)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    by_hand.compile(keras.optimizers.Adam(rate), loss)
    for _ in range(3):
        for x, y in batches():
            by_hand.train_on_batch(x, y)
    trained = read_model(tmp_path / "run" / "baseline.keras")
    for one, other in zip(trained.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def late(change: Callable[[Any, Any], Any]) -> Callable[[], Iterator[Any]]:
    """Return data whose last batch is changed."""

    def read() -> Iterator[Any]:
        *others, (x, y) = batches()
        yield from others * 3  # beyond the samples that are looked at first
        yield change(x, y)

    return read


class Sized:
    """28 batches that say how many they are."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[Any]:
        return late(lambda x, y: (x, y))()

    def __len__(self) -> int:
        return self.length


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (late(lambda x, y: (x, y + 7)), "batch 28 has label [78] at example 0, the model 'two'"),
        (late(lambda x, y: ([x[0], x[1][:, :2]], y)), r"batch 28: examples have shape \(2, 3\), "),
        (late(lambda x, y: ([x[0] * np.nan, x[1]], y)), "holds NaN or infinity in sample 432"),
        (Sized(27), "data: the train set: it goes on after its length, 27"),
        (Sized(29), "data: the train set: 28 batches of 448 samples, but its length is 29"),
        (late(lambda x, y: (x[:1], y)), "the model takes 2 inputs. Received 1"),
    ],
)
def test_a_wrong_batch_is_one_line(data: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        compress(make(), RECIPE, (data, batches), out=tmp_path / "run")
    assert "\n" not in str(error.value)


PROGRAM = Path(__file__).parent / "streamed.py"


def peak_of(batches: int, folder: Path) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(batches), str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    peak, made = map(int, done.stdout.splitlines()[-1].split())
    return peak, made


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    few, many = 16, 400  # 1.3 GB; the first have all examples that repair and gradients take
    peak, _ = peak_of(few, tmp_path / "small")
    larger, made = peak_of(many, tmp_path / "large")
    assert made > 2 * many
    assert larger < 1.1 * peak
