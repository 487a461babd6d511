"""The table of forms of data, and all that takes data: a form means the same everywhere."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tfprune
from tfprune.deploy.verify.reference import draw
from tfprune.errors import DataError
from tfprune.graph.model_signature import interface
from tfprune.measure.fidelity import score_files

L = keras.layers
RNG = np.random.default_rng(0)
A = RNG.normal(size=(40, 4)).astype("float32")
B = RNG.normal(size=(40, 3)).astype("float32")
Y = RNG.integers(0, 2, 40)
W = np.ones(40, "float32")
CUTS = (slice(0, 32), slice(32, 40))


class Pieces(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        cut = CUTS[index]
        return (A[cut], B[cut]), Y[cut]


def mapped_into_memory(folder: Path) -> list[np.ndarray]:
    arrays = []
    for name, array in (("a", A), ("b", B)):
        np.save(folder / f"{name}.npy", array)
        arrays.append(np.load(folder / f"{name}.npy", mmap_mode="r"))
    return arrays


def forms(folder: Path) -> Iterator[tuple[str, bool, Callable[[], Any]]]:
    """Name, whether there are labels, and a function that makes the data afresh."""
    import tensorflow as tf

    slices = tf.data.Dataset.from_tensor_slices
    memory = mapped_into_memory(folder)
    yield "a list of arrays", False, lambda: [A, B]
    yield "a dict of arrays", False, lambda: {"b": B, "a": A}
    yield "lists of numbers", False, lambda: [A.tolist(), B.tolist()]
    yield "memory-mapped", False, lambda: memory
    yield "tensors", False, lambda: [tf.constant(A), tf.constant(B)]
    yield "(inputs,)", False, lambda: ([A, B],)
    yield "(list, labels)", True, lambda: ([A, B], Y)
    yield "(tuple, labels)", True, lambda: ((A, B), Y)
    yield "(dict, labels)", True, lambda: ({"a": A, "b": B}, Y)
    yield "(inputs, labels, weights)", True, lambda: ([A, B], Y, W)
    yield "tf.data of batches", True, lambda: slices(((A, B), Y)).batch(32)
    yield "tf.data of samples", True, lambda: slices(((A, B), Y))
    yield "tf.data of dicts", True, lambda: slices(({"a": A, "b": B}, Y, W)).batch(32)
    yield "tf.data without labels", False, lambda: slices(((A, B),)).batch(32)
    yield "keras.utils.PyDataset", True, Pieces
    yield "a list of batches", True, lambda: [([A[cut], B[cut]], Y[cut]) for cut in CUTS]
    yield "batches without labels", False, lambda: [[A[cut], B[cut]] for cut in CUTS]
    yield (
        "a generator of samples",
        True,
        lambda: (({"a": a, "b": b}, y) for a, b, y in zip(A, B, Y, strict=True)),
    )
    yield "a function", True, lambda: lambda: iter([([A[cut], B[cut]], Y[cut]) for cut in CUTS])


def make() -> keras.Model:
    keras.utils.set_random_seed(0)
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    x = L.Dense(16, name="hidden")(L.Concatenate()([a, b]))
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    return keras.Model([a, b], L.Dense(2, name="head")(x))


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def shrink_by(importance: str) -> Callable[[Any], Any]:
    def shrunken(data: Any) -> Any:
        small, _ = tfprune.shrink(
            make(), {"channels": 0.5}, importance=importance, data=data, loss=LOSS, verify=False
        )
        return small.get_weights()

    return shrunken


def shrink_and_repair(data: Any) -> Any:
    return tfprune.shrink(make(), {"channels": 0.5}, repair=data, verify=False)[0].get_weights()


def recalibrate(data: Any) -> Any:
    return tfprune.recalibrate(make(), data).get_weights()


def prune(data: Any) -> Any:
    return tfprune.prune(make(), 0.5, score="taylor", data=data, loss=LOSS).get_weights()


def prune_oneshot(data: Any) -> Any:
    return tfprune.prune_oneshot(make(), data, 0.5).get_weights()


def round_weights(data: Any) -> Any:
    return tfprune.round_weights(make(), data).get_weights()


def calibration(data: Any) -> Any:
    samples, _ = draw(interface(make()), data, [])
    return [samples["a"], samples["b"]]


READERS: dict[str, tuple[bool, Callable[[Any], Any]]] = {
    "shrink importance='activation'": (False, shrink_by("activation")),
    "shrink importance='taylor'": (True, shrink_by("taylor")),
    "shrink repair=": (False, shrink_and_repair),
    "recalibrate": (False, recalibrate),
    "prune score='taylor'": (True, prune),
    "prune_oneshot": (False, prune_oneshot),
    "round_weights": (False, round_weights),
    "to_tflite calibration=": (False, calibration),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> tfprune.Artifact:
    path = tmp_path_factory.mktemp("forms") / "model.tflite"
    return tfprune.to_tflite(make(), path, calibration=[A, B])


@pytest.fixture
def readers(file) -> dict[str, tuple[bool, Callable[[Any], Any]]]:
    """All that takes data; the files are scored as `compare`, `check` and "auto" do."""

    def score(data: Any) -> Any:
        (found,) = score_files([file], data)
        return [found.samples, found.score]

    return {**READERS, "compare": (True, score)}


@pytest.mark.slow
@pytest.mark.parametrize("reader", [*READERS, "compare"])
def test_every_form_of_data_gives_the_same_result(reader: str, readers, tmp_path) -> None:
    needs_labels, read = readers[reader]
    expected = read(([A, B], Y))
    for name, labeled, form in forms(tmp_path):
        if needs_labels and not labeled:
            with pytest.raises(DataError, match="label"):
                read(form())
            continue
        for got, wanted in zip(read(form()), expected, strict=True):
            np.testing.assert_array_equal(got, wanted, err_msg=name)


@pytest.mark.parametrize("reader", [*READERS, "compare"])
def test_a_pair_of_arrays_is_never_taken_for_two_inputs(reader: str, readers) -> None:
    import tensorflow as tf

    _, read = readers[reader]
    for data in ((A, B), tf.data.Dataset.from_tensor_slices((A, B)).batch(32)):
        with pytest.raises(DataError, match=r"takes 2 inputs. Received 1; a tuple is \(inputs, la"):
            read(data)


def test_layers_are_compared_on_samples_in_the_same_forms(file, tmp_path) -> None:
    model = make()
    expected = tfprune.compare_layers(model, file, [A, B])
    assert expected.rows[0].error < 1e-4
    assert tfprune.compare_layers(model, file, ({"a": A, "b": B}, Y)) == expected
    with pytest.raises(DataError, match=r"a tuple is \(inputs, labels\); give several inputs as"):
        tfprune.compare_layers(model, file, (A, B))
