import types

import keras
import numpy as np
import pytest

from tfprune.errors import ModelError
from tfprune.sparsity.optimizers import (
    average_of,
    batches_of,
    batches_per_update,
    optimizer_of,
    updates_of,
)

SGD = keras.optimizers.SGD


def apply(optimizer: keras.optimizers.Optimizer, times: int) -> keras.Variable:
    variable = keras.Variable(np.ones(2, "float32"))
    for _ in range(times):
        optimizer.apply([np.ones(2, "float32")], [variable])
    return variable


@pytest.mark.parametrize("wrap", [lambda optimizer: optimizer, keras.optimizers.LossScaleOptimizer])
@pytest.mark.parametrize("per_update", [None, 3])
def test_updates_and_batches_are_counted(wrap, per_update) -> None:
    optimizer = wrap(SGD(gradient_accumulation_steps=per_update))
    assert (updates_of(optimizer), batches_of(optimizer)) == (0, 0)
    apply(optimizer, 7)
    assert updates_of(optimizer) == (7 if per_update is None else 2)
    assert batches_of(optimizer) == 7
    assert batches_per_update(optimizer) == (per_update or 1)


class Look(keras.constraints.Constraint):
    def __call__(self, w):
        self.average = average_of(w)
        return w


@pytest.mark.parametrize("wrap", [lambda optimizer: optimizer, keras.optimizers.LossScaleOptimizer])
def test_the_average_is_that_of_the_optimizer_at_work(wrap) -> None:
    for use_ema in (True, False):
        variable, look = keras.Variable(np.ones(2, "float32")), Look()
        variable.constraint = look
        inner = SGD(use_ema=use_ema)
        wrap(inner).apply([np.ones(2, "float32")], [variable])
        (expected,) = inner._model_variables_moving_average if use_ema else [None]
        assert look.average is expected
        assert average_of(variable) is None  # nothing is at work now


def test_an_optimizer_that_counts_nothing_is_refused() -> None:
    with pytest.raises(ModelError, match=r"set model\.optimizer"):
        optimizer_of(types.SimpleNamespace())
    with pytest.raises(ModelError, match="counts its steps as `iterations`. Received object"):
        optimizer_of(types.SimpleNamespace(optimizer=object()))
