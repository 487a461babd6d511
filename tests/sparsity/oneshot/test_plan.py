import keras
import numpy as np
import pytest

from tfprune.errors import FilterError, ModelError
from tfprune.sparsity.choices import allocation as allocations
from tfprune.sparsity.choices.patterns import Block, KeepOf, Pattern, Unstructured
from tfprune.sparsity.choices.schedules import OneShot
from tfprune.sparsity.choices.scores import SCORES
from tfprune.sparsity.masks import Choices
from tfprune.sparsity.oneshot.plan import make_plan, shrinking

L = keras.layers


def choices(pattern: Pattern | None = None, **more: object) -> Choices:
    return Choices(
        score=SCORES["magnitude"],
        pattern=pattern or Unstructured(),
        allocation=allocations.uniform,
        schedule=OneShot(0.5),
        **more,
    )


def reader() -> keras.Model:
    tokens = keras.Input((6,), dtype="int32")
    x = L.Embedding(9, 8, name="words")(tokens)
    x = L.LSTM(5, return_sequences=True, name="memory")(x)
    late, early = L.Dense(3, name="late"), L.Dense(4, name="early")
    return keras.Model(tokens, late(early(x)), name="reader")


TOKENS = np.zeros((2, 6), "int32")


def test_stages_end_at_what_is_wanted() -> None:
    assert shrinking(Unstructured(), 10, 10, 3) == [(Unstructured(), 10)] * 3
    assert shrinking(Unstructured(), 1, 8, 1) == [(Unstructured(), 1)]
    assert shrinking(KeepOf(1, 2), 0, 8, 3) == [(KeepOf(1, 2), 0)]
    assert [p.keep for p, _ in shrinking(KeepOf(2, 8), 0, 8, 3)] == [4, 3, 2]
    assert shrinking(Block(2, 2), 3, 16, 3) == [(Block(2, 2), 3)]


def test_kernels_are_in_the_order_of_the_graph_and_unreached_ones_have_a_reason() -> None:
    jobs, skipped = make_plan(reader(), TOKENS, choices(), 0.5)
    names = [job.kernel.path for job in jobs]
    assert names.index("early/kernel") < names.index("late/kernel")
    assert [job.linear is None for job in jobs if "memory" in job.kernel.path] == [True, True]
    assert all("LSTMCell" in job.reason for job in jobs if job.linear is None)
    assert {entry.layer: entry.reason for entry in skipped} == {
        "words/embeddings": "embeddings are looked up, not multiplied"
    }


def test_counts_are_the_allocations() -> None:
    jobs, _ = make_plan(reader(), TOKENS, choices(only=("early", "late")), 0.7)
    assert [(job.kernel.path, job.count) for job in jobs] == [
        ("early/kernel", 6),
        ("late/kernel", 4),
    ]


def test_a_layer_that_the_samples_do_not_reach_is_named() -> None:
    class Branching(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = L.Dense(2), L.Dense(2, name="unused")

        def build(self, shape: object) -> None:
            self.used.build((None, 3))
            self.unused.build((None, 3))

        def call(self, x: object) -> object:
            return self.used(x)

    model = Branching()
    jobs, _ = make_plan(model, np.ones((2, 3), "float32"), choices(), 0.5)
    assert [job.reason for job in jobs] == ["the samples never reach its layer", ""]


def test_a_model_that_is_not_built_is_run_once() -> None:
    model = keras.Sequential([L.Dense(3), L.Dense(2)])
    jobs, _ = make_plan(model, np.ones((2, 4), "float32"), choices(), 0.5)
    assert [job.kernel.shape for job in jobs] == [(4, 3), (3, 2)]


def test_filters_that_match_nothing_and_models_without_a_kernel() -> None:
    with pytest.raises(FilterError, match="skip: 'tail' matches nothing"):
        make_plan(reader(), TOKENS, choices(skip=("tail",)), 0.5)
    bare = keras.Sequential([keras.Input((3,)), L.ReLU()], name="bare")
    with pytest.raises(ModelError, match="'bare' has no kernel that it can change"):
        make_plan(bare, np.ones((2, 3), "float32"), choices(), 0.5)
