"""What `fit` is given: the batches of a stream, in the structures of the model."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tfprune.data.feed import Feed, packed
from tfprune.data.model_inputs import ModelInputs, OneInput
from tfprune.data.samples import Split
from tfprune.data.streams import Stream
from tfprune.errors import DataError

A = np.arange(40, dtype=np.float32).reshape(20, 2)
B = np.arange(20, dtype=np.int32)
INPUTS = (OneInput("a", (None, 2), "float32"), OneInput("b", (None,), "int32"))
LIST, DICT = ModelInputs(INPUTS, [0, 1]), ModelInputs(INPUTS, {"b": 1, "a": 0})


def batches() -> Iterator[Any]:
    for start in range(0, 20, 8):
        cut = slice(start, start + 8)
        yield {"b": B[cut], "a": A[cut]}, B[cut], np.ones(len(B[cut]), "float32")


def streams() -> dict[str, Stream]:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(({"a": A, "b": B}, B, np.ones(20, "float32")))
    data = {"python": batches, "samples": dataset, "batches": dataset.batch(8)}
    return {name: Stream.of(one, "data: set") for name, one in data.items()}


def plain(split: Split, name: str) -> None:
    assert len(split)


@pytest.mark.parametrize("form", ["python", "samples", "batches"])
def test_every_epoch_has_every_batch_in_the_structure_of_the_model(form: str) -> None:
    for takes in (LIST, DICT):
        dataset = Feed(streams()[form], takes, 8, plain).dataset()
        for _ in range(2):
            found = list(dataset.as_numpy_iterator())
            assert [len(labels) for _, labels, _ in found] == [8, 8, 4]
            x = found[2][0]
            a, b = x if takes is LIST else (x["a"], x["b"])
            np.testing.assert_array_equal(a, A[16:])
            np.testing.assert_array_equal(b, B[16:])
    assert dataset.element_spec[1].shape.as_list() == [None]


def test_sizes_are_open_where_those_of_the_model_are() -> None:
    lengths = [(np.zeros((4, size), "float32"), np.zeros((4, size), "int32")) for size in (3, 5)]
    takes = ModelInputs((OneInput("x", (None, None), "float32"),), 0)
    dataset = Feed(Stream.of(lengths, "data: set"), takes, 8, plain).dataset()
    assert [x.shape for x, _ in dataset.as_numpy_iterator()] == [(4, 3), (4, 5)]


@pytest.mark.parametrize("form", ["python", "batches"])
def test_the_error_of_a_batch_is_kept(form: str) -> None:
    import tensorflow as tf

    def refuse(split: Split, name: str) -> None:
        if 19 in split.y:
            raise DataError(f"{name}: 19")

    stream = streams()[form]
    feed = Feed(Stream(stream.data, stream.name, convert=_checked(refuse)), LIST, 8, plain)
    feed.stream.__dict__["head"] = stream.first(8).head
    with pytest.raises(tf.errors.OpError):
        list(feed.dataset())
    assert str(feed.failed[0]).startswith("data: set")


def _checked(check: Any) -> Any:
    def convert(split: Split, name: str) -> Split:
        check(split, name)
        return split

    return convert


def test_batches_of_other_types_are_refused() -> None:
    import tensorflow as tf

    data = [(A[:4], B[:4]), (A[4:8], B[4:8].astype("float32"))]
    takes = ModelInputs(INPUTS[:1], 0)
    stream = Stream.of(data, "data: set")
    stream.__dict__["head"] = stream.first(4).head
    feed = Feed(stream, takes, 4, plain)
    with pytest.raises(tf.errors.OpError):
        list(feed.dataset())
    assert "batch 2: arrays of float32 with 2 axes, float32 with 1 axes; those of the" in str(
        feed.failed[0]
    )


def test_a_pydataset_is_told_of_the_end_of_an_epoch() -> None:
    import keras

    class Pieces(keras.utils.PyDataset):
        ended = 0

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Any:
            return A[index : index + 4], B[index : index + 4]

        def on_epoch_end(self) -> None:
            self.ended += 1

    pieces = Pieces()
    stream = Stream.of(pieces, "data: set")
    list(Feed(stream, ModelInputs(INPUTS[:1], 0), 4, plain).dataset())
    assert pieces.ended == 1
    list(stream.batches())
    assert pieces.ended == 1


def test_inputs_are_packed_by_name_or_order() -> None:
    assert packed({"b": B, "a": A}, LIST, "data")[1] is B
    assert packed([A, B], DICT, "data")["b"] is B
    with pytest.raises(DataError, match="data=: no input 'b'"):
        packed({"a": A}, LIST, "data")
