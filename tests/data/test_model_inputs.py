"""The inputs of a model, and arrays that do not fit them."""

from typing import Any

import keras
import numpy as np
import pytest

from tfprune.data.batches import Batch, read
from tfprune.data.model_inputs import (
    ModelInputs,
    OneInput,
    fits,
    inputs_of,
    inputs_of_specs,
    leaves,
    mapped,
)  # fmt: skip
from tfprune.errors import DataError
from tfprune.runtime.artifact import TensorSpec

L = keras.layers


def one_input() -> keras.Model:
    return keras.Sequential([keras.Input((4,), name="x"), L.Dense(2)], name="one")


def two_inputs(structure: type = list) -> keras.Model:
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    joined = L.Concatenate()([L.Dense(2)(a), L.Dense(2)(b)])
    inputs = {"b": b, "a": a} if structure is dict else [a, b]
    return keras.Model(inputs, joined, name="two")


X = np.arange(40.0, dtype="float32").reshape(10, 4)
B = np.ones((10, 3), "float32")


def batches(model: keras.Model, data: Any, size: int = 10) -> list[Batch]:
    return list(read(data, inputs_of(model), "data", size=size))


def sizes(found: list[Batch]) -> list[int]:
    return [batch.size for batch in found]


def test_one_input() -> None:
    import tensorflow as tf

    model = one_input()
    found = batches(model, X, 4)
    assert sizes(found) == [4, 4, 2]
    assert np.array_equal(np.concatenate([batch.inputs for batch in found]), X)
    assert model(found[0].inputs).shape == (4, 2)
    assert sizes(batches(model, tf.constant(X))) == [10]
    assert sizes(batches(model, (X[i : i + 5] for i in (0, 5)), 1)) == [5, 5]


class Pieces(keras.utils.PyDataset):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return X[5 * index : 5 * index + 5], np.zeros(5)


def test_a_pydataset_is_read_to_its_end() -> None:
    assert sizes(batches(one_input(), Pieces(), 1)) == [5, 5]


@pytest.mark.parametrize("data", [[X, B], ([X, B],), {"a": X, "b": B}])
def test_several_inputs(data: Any) -> None:
    model = two_inputs()
    (batch,) = batches(model, data)
    assert model(batch.inputs).shape == (10, 4)
    assert np.array_equal(batch.inputs[1], B)


def test_inputs_in_a_dict() -> None:
    model = two_inputs(dict)
    (batch,) = batches(model, {"b": B, "a": X})
    assert np.array_equal(batch.inputs["a"], X)
    assert model(batch.inputs).shape == (10, 4)
    (listed,) = batches(model, [X, B])
    assert np.array_equal(listed.inputs["b"], B)


@pytest.mark.filterwarnings("ignore:When providing `inputs` as a dict")  # the case in question
def test_a_dict_is_read_by_its_keys_or_by_the_names_of_the_inputs() -> None:
    image, words = keras.Input((4,), name="image"), keras.Input((3,), name="words")
    joined = L.Concatenate()([image, words])
    model = keras.Model({"z": image, "a": words}, joined)
    for data in ({"a": B, "z": X}, {"words": B, "image": X}):
        (batch,) = batches(model, data)
        assert np.array_equal(batch.inputs["z"], X)
        assert model(batch.inputs).shape == (10, 7)
    with pytest.raises(
        DataError, match=r"no input 'z'. Received \['a', 'image'\]; unknown input 'image'"
    ):
        batches(model, {"a": B, "image": X})


@pytest.mark.parametrize("outer", [list, dict])
def test_inputs_in_a_nested_structure(outer: type) -> None:
    a, b, c = (keras.Input((3,), name=name) for name in "abc")
    arrays = [np.full((10, 3), n, "float32") for n in range(3)]
    nested = [[b, a], c] if outer is list else {"x": {"b": b, "a": a}, "c": c}
    model = keras.Model(nested, L.Concatenate()([a, b, c]))
    given = keras.tree.map_structure(lambda tensor: arrays["abc".index(tensor.name)], nested)
    for data in (
        given,
        (given, np.zeros(10)),
        iter([(given,)]),
        dict(zip("abc", arrays, strict=1)),
    ):
        (batch,) = batches(model, data)
        assert np.array_equal(model(batch.inputs)[0], [0, 0, 0, 1, 1, 1, 2, 2, 2])


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.head = L.Dense(2)

    def call(self, x: Any) -> Any:
        return self.head(x)


def test_a_model_that_declares_no_inputs_gets_the_data_unchanged() -> None:
    assert inputs_of(Subclassed()) is None
    assert sizes(batches(Subclassed(), X, 5)) == [5, 5]


NAN = np.where(np.arange(40).reshape(10, 4) == 7, np.nan, X)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (NAN, "data= holds NaN or infinity in sample 1; clean the data first"),
        (np.full((2, 4), np.inf), "in sample 0"),
        (np.ones((2, 5)), r"input 'x': expected a batch of shape \(None, 4\). Received \(2, 5\)"),
        (([X, np.zeros(10)],), "the model takes 1 input. Received 2"),
        ({"y": X}, r"data=: no input 'x'. Received \['y'\]; unknown input 'y'. Known: x"),
        (np.full((2, 4), "x"), "input 'x': expected numbers, in arrays of one shape. Received <U1"),
        (X.astype("float64") * 1e300, "is too large for float32, which the model takes"),
    ],
)
def test_wrong_data_is_a_one_line_error(data: Any, message: str, recwarn) -> None:
    with pytest.raises(DataError, match=message) as caught:
        batches(one_input(), data, 4)
    assert "\n" not in str(caught.value)
    assert not recwarn


def test_inputs_of_different_length_are_refused() -> None:
    with pytest.raises(DataError, match="Received 7 inputs, 10 inputs"):
        batches(two_inputs(), [X, B[:7]])


def test_types_are_those_of_the_model_where_nothing_is_lost() -> None:
    import ml_dtypes

    takes = ModelInputs((OneInput("tokens", (None, 3), "int32"),), 0)
    (batch,) = read(np.ones((2, 3)), takes, "data")
    assert batch.inputs.dtype == np.int32
    with pytest.raises(DataError, match="'tokens': the model takes int32. Received 0.5"):
        list(read(np.full((2, 3), 0.5), takes, "data"))
    halves = np.ones((2, 4), ml_dtypes.bfloat16)
    assert batches(one_input(), halves)[0].inputs.dtype == np.float32
    with pytest.raises(DataError, match="holds NaN"):
        batches(one_input(), halves * np.nan)
    words = ModelInputs((OneInput("words", (None, 1), "string"),), 0)
    assert next(read(np.array([["a"], ["b"]]), words, "data").__iter__()).size == 2


def test_what_a_file_quantizes_is_left_to_it() -> None:
    takes = inputs_of_specs([TensorSpec("x", (-1, 3), "int8", 0.1)])
    assert takes.inputs[0].shape == (None, 3)
    (batch,) = read(np.full((2, 3), 0.5), takes, "data")
    assert isinstance(batch.inputs, tuple)
    assert batch.inputs[0][0, 0] == 0.5


def test_structures_without_keras() -> None:
    assert mapped(str, {"a": [1, (2,)]}) == {"a": ["1", ("2",)]}
    assert leaves({"a": [1, (2,)], "b": None}) == [1, 2, None]
    assert fits((2, 3), (None, 3))
    assert not fits((2, 3, 1), (None, 3))
