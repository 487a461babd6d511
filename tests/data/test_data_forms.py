"""One meaning for each form of data: see also tests/contract/test_data_forms.py."""

import numpy as np
import pytest

from tfprune.data.batches import read
from tfprune.data.data_forms import Forms
from tfprune.data.model_inputs import ModelInputs, OneInput
from tfprune.errors import DataError

A, B, Y = np.ones((6, 3)), np.arange(6), np.zeros(6)
ONE = ModelInputs((OneInput("x", (None, 3), "float32"),), 0)
TWO = ModelInputs((OneInput("a", (None, 3), "float32"), OneInput("b", (None,), "int32")), [0, 1])


@pytest.mark.parametrize(
    "data", [([A, B], Y), ((A, B), Y), ({"b": B, "a": A}, Y), ([A.tolist(), B.tolist()], list(Y))]
)
def test_several_inputs_with_labels(data) -> None:
    parts = Forms(TWO, "data").whole(data)
    np.testing.assert_array_equal(parts.inputs[0], A)
    np.testing.assert_array_equal(parts.inputs[1], B)
    np.testing.assert_array_equal(parts.labels, Y)
    assert parts.named == isinstance(data[0], dict)


@pytest.mark.parametrize("data", [(A, B), iter([(A, B)]), (A,), A, (A, B, Y)])
def test_a_pair_is_inputs_and_labels_not_two_inputs(data) -> None:
    with pytest.raises(DataError) as caught:
        list(read(data, TWO, "calibration"))
    said = str(caught.value)
    assert said.startswith("calibration=: the model takes 2 inputs. Received 1; ")
    assert said.endswith(
        "give several inputs as a list [a, b] or a dict {'a': …, 'b': …}, and in a dataset as "
        "((a, b),), or with labels ((a, b), labels)"
    )
    assert ("a tuple is (inputs, labels); " in said) == (data is not A)


def test_a_list_of_arrays_is_refused_for_a_model_with_unknown_inputs() -> None:
    with pytest.raises(DataError, match=r"may be inputs or batches: give \(\[…\],\) or iter"):
        Forms(None, "data").whole([A, B])
    assert len(Forms(None, "data").whole(([A, B],)).inputs) == 2
    assert Forms(None, "data").whole([[0.0, 1.0], [2.0, 3.0]]).inputs.shape == (2, 2)


def test_lists_of_numbers_are_arrays_in_labels_too() -> None:
    parts = Forms(ONE, "data").parts(([[1.0, 2.0, 3.0]], [0]))
    assert parts.inputs[0].shape == (1, 3)
    assert parts.labels.shape == (1,)
    assert Forms(ONE, "data", labels=False).parts((A, Y)).labels is None
