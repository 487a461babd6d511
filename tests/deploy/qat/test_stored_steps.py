"""Which tensors inside a call have a range."""

import keras
import pytest
from keras import ops

from tfprune.deploy.qat.rounded_call import QuantisedCall, packed
from tfprune.deploy.qat.rounding.ranges import FIXED_LIMITS

L = keras.layers


def _prepared(layer, *shapes) -> QuantisedCall:
    made = QuantisedCall(layer)
    tensors = [keras.KerasTensor(shape) for shape in shapes]
    tensors, rest = packed([tensors if len(tensors) > 1 else tensors[0]], {})
    made.prepare(tensors, rest)
    return made


def _kinds(layer, *shapes) -> list[str]:
    return [stored.place[1] for stored in _prepared(layer, *shapes).stored]


def _inside(function, *shapes) -> list[str]:
    """Return the kinds of the steps with a range, between an input and an output."""
    return _kinds(L.Lambda(function), *(shapes or ((None, 4),)))


@pytest.mark.parametrize(
    "function",
    [
        ops.relu,
        lambda x: ops.gelu(x, approximate=False),
        lambda x: ops.gelu(x, approximate=True),
        ops.hard_silu,
        lambda x: ops.reshape(ops.transpose(x), (2, -1)),
        lambda x: ops.relu(x + ops.ones(4)),
        lambda x: ops.ones_like(x) * 3.0,
    ],
    ids=["relu", "gelu", "gelu tanh", "hard_silu", "moves", "fused relu", "constant"],
)
def test_what_the_converter_fuses_moves_or_folds_has_no_range(function):
    assert _inside(function) == []


def test_the_output_has_its_range_outside():
    assert _inside(lambda x: ops.exp(x) * 2.0) == ["Exp"]
    assert _inside(lambda x: ops.reshape(ops.exp(x) * 2.0, (-1,))) == ["Exp", "Mul"]
    assert _prepared(L.GroupNormalization(2), (None, 5, 4)).covers_output
    assert not _prepared(L.RMSNormalization(), (None, 4)).covers_output


def test_a_product_and_its_bias_have_one_range():
    dense = L.Lambda(lambda x: ops.exp(ops.matmul(x, ops.ones((4, 3))) + ops.ones(3)))
    assert _kinds(dense, (None, 4)) == ["AddV2"]


def test_the_second_factor_has_its_middle_at_zero():
    made = _prepared(
        L.Lambda(lambda x: ops.matmul(ops.exp(x[0]), ops.transpose(ops.exp(x[1]), (0, 2, 1)))),
        (None, 3, 4),
        (None, 3, 4),
    )
    assert [stored.about_zero for stored in made.stored] == [False, True]


def test_a_fixed_range_has_no_weights():
    made = _prepared(L.Activation("silu"), (None, 4))
    assert [stored.fixed for stored in made.stored] == [FIXED_LIMITS["sigmoid"]]
    assert not made.weights


def test_a_choice_has_one_range_for_all_it_chooses_from():
    made = _prepared(
        L.Lambda(lambda x: ops.sum(ops.maximum(ops.exp(x), ops.square(x)), 1)), (None, 4)
    )
    assert [stored.place[1] for stored in made.stored] == ["Exp", "Square", "Maximum"]
    assert [stored.joins is None for stored in made.stored] == [False, False, True]
    assert [one is None for one in made.ranges] == [True, True, False]


def test_hidden_scores_have_no_part_in_a_range():
    hidden = L.Lambda(lambda x: ops.softmax(ops.where(x[0] > 0, x[1] * 2.0, -1e9)))
    made = _prepared(hidden, (None, 4), (None, 4))
    assert [(one.place[1], one.hides) for one in made.stored if one.hides] == [("SelectV2", 2)]


def test_weights_are_rounded_for_what_reads_them():
    made = _prepared(L.LSTM(4), (None, 5, 3))
    assert [variable.name for variable in made.rounded] == ["kernel", "recurrent_kernel", "bias"]
    assert [kept is None for kept in made.kept] == [False, False, True]
    made = _prepared(L.RMSNormalization(), (None, 4))
    assert list(made.kept) == [None]


def test_indices_that_are_only_moved_as_floats_have_no_range():
    made = QuantisedCall(L.CategoryEncoding(num_tokens=8, output_mode="one_hot"))
    made.prepare(*packed([keras.KerasTensor((None, 1), "int32")], {}))
    assert "Cast" not in [stored.place[1] for stored in made.stored]
    made = QuantisedCall(L.Lambda(lambda x: ops.cast(x, "float32") * 3.0))
    made.prepare(*packed([keras.KerasTensor((None, 1), "int32")], {}))
    assert "Cast" in [stored.place[1] for stored in made.stored]
