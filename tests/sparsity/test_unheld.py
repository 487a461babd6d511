import keras
import numpy as np
import pytest

import tfprune
from tfprune.errors import ScheduleWarning
from tfprune.sparsity.masks import holds_of
from tfprune.sparsity.unheld import describe_zeros, unheld_zeros, watch_zeros


@pytest.fixture
def sparse(model) -> keras.Model:
    """A model with zeros in `hidden` without a mask."""
    return tfprune.strip_pruning(tfprune.prune(model, 0.5, only="hidden"))


def test_kernels_that_look_pruned_are_found(sparse) -> None:
    assert unheld_zeros(sparse) == {"hidden/kernel": 0.5}
    sparse.get_layer("hidden").kernel.assign(np.zeros((12, 20)))
    assert unheld_zeros(sparse) == {}


def test_zeros_that_are_held_or_that_a_constraint_makes_are_left_out(sparse) -> None:
    kernel = sparse.get_layer("hidden").kernel
    kernel.constraint = keras.constraints.NonNeg()
    assert unheld_zeros(sparse) == {}
    kernel.constraint = None
    tfprune.prune(sparse, 0.5)
    assert unheld_zeros(sparse) == {}


def test_training_warns_once_and_nothing_else_changes(sparse, data) -> None:
    other = keras.models.clone_model(sparse)
    other.set_weights(sparse.get_weights())
    assert watch_zeros(sparse) is sparse
    assert unheld_zeros(sparse) == {"hidden/kernel": 0.5}
    for model in (sparse, other):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss, run_eagerly=True)
    with pytest.warns(ScheduleWarning, match=r"zeros of hidden/kernel \(50%\)") as caught:
        sparse.train_on_batch(*data)
    sparse.train_on_batch(*data)
    assert len(caught) == 1
    for _ in range(2):
        other.train_on_batch(*data)
    for mine, theirs in zip(sparse.weights, other.weights, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_pruning_takes_its_place(sparse, data) -> None:
    watch_zeros(sparse)
    tfprune.prune(sparse, 0.5)
    assert len(holds_of(sparse)) == 2
    sparse.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    sparse.train_on_batch(*data)
    assert tfprune.sparsity_of(sparse)["hidden/kernel"].zeros == 120
    assert tfprune.strip_pruning(sparse).get_layer("hidden").kernel.constraint is None


def test_many_kernels_are_named_in_short() -> None:
    assert describe_zeros(dict.fromkeys("abcde", 0.5)) == "a (50%), b (50%), c (50%) and 2 more"
