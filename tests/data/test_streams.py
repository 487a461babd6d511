"""Sets that are read in batches: again for every pass, with a length that is checked."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tfprune.data.samples import Split, checked
from tfprune.data.streams import HEAD, Mapped, Stream
from tfprune.errors import DataError

X = np.arange(80, dtype=np.float32).reshape(40, 2)
Y = np.arange(40)
CUTS = [slice(start, start + 16) for start in range(0, 40, 16)]


def batches() -> Iterator[Any]:
    return ((X[cut], Y[cut]) for cut in CUTS)


class Sized:
    """Batches with a length."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __iter__(self) -> Iterator[Any]:
        return batches()

    def __len__(self) -> int:
        return self.length


class Pieces(keras.utils.PyDataset):
    def __len__(self) -> int:
        return len(CUTS)

    def __getitem__(self, index: int) -> Any:
        return X[CUTS[index]], Y[CUTS[index]]


def mapped_into_memory(folder: Path) -> Mapped:
    np.save(folder / "x.npy", X)
    return Mapped.of(Split(np.load(folder / "x.npy", mmap_mode="r"), Y))


def forms(folder: Path) -> dict[str, Any]:
    import tensorflow as tf

    slices = tf.data.Dataset.from_tensor_slices((X, Y))
    return {
        "a list of batches": list(batches()),
        "a function": batches,
        "a length": Sized(3),
        "a PyDataset": Pieces(),
        "tf.data": slices.batch(16),
        "tf.data of samples": slices,
        "tf.data of unknown length": slices.batch(16).filter(lambda x, y: True),
        "a function of tf.data": lambda: slices.batch(16),
        "memory-mapped": mapped_into_memory(folder),
    }


def stream_of(data: Any) -> Stream:
    return Stream(data, "data: set") if isinstance(data, Mapped) else Stream.of(data, "data: set")


def labels(stream: Stream, size: int = 16) -> list[int]:
    return [int(label) for split in stream.batches(size) for label in split.y]


def test_every_form_is_read_again_and_again_with_its_length(tmp_path: Path) -> None:
    for name, data in forms(tmp_path).items():
        stream = stream_of(data)
        for _ in range(2):
            assert labels(stream) == Y.tolist(), name
        assert stream.steps(16) == 3, name
        np.testing.assert_array_equal(stream.head.x, X, err_msg=name)
        assert [len(item[1]) for item in stream.first(20)] in ([16, 4], [20]), name
        assert labels(stream.first(20)) == Y[:20].tolist(), name
        assert stream.first(20).steps(16) == 2, name
        assert labels(stream.first(20).first(None)) == Y[:20].tolist(), name


def test_batches_are_converted_when_they_are_read() -> None:
    seen = []

    def double(split: Split, name: str) -> Split:
        seen.append(name)
        return Split(split.x, 2 * split.y)

    stream = stream_of(batches).converted(double).converted(double)
    assert not seen
    assert labels(stream) == (4 * Y).tolist()
    assert seen[:3] == ["data: set, batch 1"] * 2 + ["data: set, batch 2"]


def test_a_batch_of_as_many_samples_as_inputs_is_of_inputs() -> None:
    seen = []
    stream = stream_of([([X, X[:, :1]], Y)]).first(2)
    stream = stream.converted(lambda split, name: seen.append(checked(split, name, 1.0)) or split)
    assert labels(stream) == [0, 1]
    assert [array.shape for array in seen[0].x] == [(2, 2), (2, 1)]


def test_mapped_rows_are_shuffled_in_another_order_each_time(tmp_path: Path) -> None:
    stream = stream_of(mapped_into_memory(tmp_path))
    random = np.random.default_rng(0)
    orders = [[int(y) for split in stream.batches(16, random) for y in split.y] for _ in range(2)]
    assert orders[0] != orders[1]
    for order in orders:
        assert sorted(order) == Y.tolist()
    assert labels(stream.some(10, 0)) == labels(stream.some(10, 0)) != Y[:10].tolist()
    few = stream.with_chunks(np.array([0, 3, 39]))
    assert labels(few) == [0, 3, 39]
    assert few.steps(2) == 2


@pytest.mark.parametrize("rows", [1, 255, 4097, 9000])
def test_chunks_hold_every_row_once(rows: int) -> None:
    mapped = Mapped.of(Split(np.arange(rows), np.arange(rows)))
    found = np.concatenate([split.y for split in mapped.batches(100, None)])
    np.testing.assert_array_equal(found, np.arange(rows))
    assert len(mapped) == rows


def test_a_head_is_small_and_of_one_shape() -> None:
    many = [(np.zeros((100, 2), "float32"), np.zeros(100))] * 50
    assert HEAD <= len(stream_of(many).head) <= HEAD + 100
    lengths = [(np.zeros((4, size), "float32"), np.zeros(4)) for size in (3, 5)]
    assert stream_of(lengths).head.x.shape == (4, 3)


def fingerprint(data: Any) -> tuple[str, str]:
    digest = hashlib.sha256()
    return stream_of(data).fingerprint(digest, "train"), digest.hexdigest()


def test_a_fingerprint_reads_little_and_says_so(tmp_path: Path) -> None:
    told, one = fingerprint(Sized(3))
    assert told == "in its own batches of 16, identified by form, length and 40 samples"
    assert fingerprint(batches)[1] == one
    assert fingerprint(lambda: iter(list(batches())[:2]))[1] != one
    assert fingerprint(lambda: ((x + 1, y) for x, y in batches()))[1] != one
    random = np.random.default_rng(0)
    told, _ = fingerprint(lambda: ((x + random.random(), y) for x, y in batches()))
    assert told.endswith("identified by form and length; its samples differ from pass to pass")
    _, mapped = fingerprint(mapped_into_memory(tmp_path))
    X[39, 1] += 1
    try:
        assert fingerprint(mapped_into_memory(tmp_path))[1] != mapped
    finally:
        X[39, 1] -= 1


def ends_early() -> Callable[[], Any]:
    left = [3, 1]
    return lambda: iter(list(batches())[: left.pop(0)])


def once() -> Callable[[], Any]:
    given = [batches(), iter(())]
    return lambda: given.pop(0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (batches(), "data: set: a generator can be read only once; give a function that"),
        ([], "data: set is empty: give at least one sample"),
        (3, "data: set: give inputs, .* Received int"),
        (Sized(4), "data: set: 3 batches of 40 samples, but its length is 4"),
        (Sized(2), "data: set: it goes on after its length, 2"),
        ([(X, Y[:3])], "data: set: expected arrays of one length. Received 40 inputs, 3 labels"),
        (lambda: iter([X]), "data: set: there are no labels"),
        ([(np.array(["a"]), Y[:1])], "data: set: expected numbers"),
    ],
)
def test_wrong_data_is_one_line(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}") as error:
        labels(Stream.of(data, "data: set"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [ends_early, once])
def test_data_that_ends_when_it_is_read_again_is_refused(make: Callable[[], Any]) -> None:
    stream = Stream(make(), "data: set")
    stream._shared["all"] = stream_of(batches).length
    assert labels(stream) == Y.tolist()
    with pytest.raises(DataError, match=r"data: set: \d+ samples, but 40 when it was read before"):
        labels(stream)


def test_endless_data_is_refused() -> None:
    import tensorflow as tf

    endless = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).repeat()
    with pytest.raises(DataError, match=r"data: set: the data is endless \(repeat\(\)\?\)"):
        Stream.of(endless, "data: set")
