import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops

from tfprune.graph.flat import flat_model
from tfprune.graph.read import read
from tfprune.graph.tracing.weight import Weight

RNG = np.random.default_rng(0)


class Custom(kl.Layer):
    """A layer with weights of its own, of these shapes, that computes a function of them."""

    def __init__(self, function, *shapes, **kwargs):
        super().__init__(**kwargs)
        self.function, self.shapes = function, shapes

    def build(self, shape):
        self.w = self.add_weight(shape=self.shapes[0], initializer="random_normal", name="w")
        if len(self.shapes) > 1:
            self.b = self.add_weight(shape=self.shapes[1], initializer="random_normal", name="b")

    def call(self, x):
        return self.function(x, self.w, *([self.b] if len(self.shapes) > 1 else []))


def kinds(model):
    return [type(call.op) for call in read(model, lambda op: False).calls]


CASES = {
    "matmul": ((4, 6), (lambda x, w: ops.matmul(x, w), (6, 3)), [kl.Dense]),
    "matmul and bias": ((4, 6), (lambda x, w, b: x @ w + b, (6, 3), (3,)), [kl.Dense]),
    "bias and matmul": ((6,), (lambda x, w, b: b + ops.dot(x, w), (6, 3), (3,)), [kl.Dense]),
    "tensordot": ((4, 6), (lambda x, w: ops.tensordot(x, w, 1), (6, 3)), [kl.Dense]),
    "einsum": (
        (4, 6),
        (lambda x, w: ops.einsum("btd,dhk->bthk", x, w), (6, 2, 3)),
        [kl.EinsumDense],
    ),
    "einsum of the weight": (
        (4, 6),
        (lambda x, w: ops.einsum("du,btd->btu", w, x), (6, 3)),
        [kl.EinsumDense],
    ),
    "convolution": (
        (8, 8, 4),
        (lambda x, w, b: ops.conv(x, w, 2, "same") + b, (3, 3, 4, 5), (5,)),
        [kl.Conv2D],
    ),
    "dilated convolution": (
        (8, 4),
        (lambda x, w: ops.conv(x, w, 1, "valid", dilation_rate=2), (3, 4, 6)),
        [kl.Conv1D],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_call_with_a_weight_becomes_a_layer(name) -> None:
    shape, made, expected = CASES[name]
    inputs = keras.Input(shape)
    model = keras.Model(inputs, Custom(*made, name="own")(inputs))
    assert kinds(model) == expected
    x = RNG.normal(size=(5, *shape)).astype("float32")
    flat = flat_model(model)
    np.testing.assert_allclose(flat(x), model(x), rtol=1e-5, atol=1e-6)
    assert flat.count_params() == model.count_params()
    assert flat.layers[-1].name == "own_w"


def test_rows_of_a_table_are_an_embedding() -> None:
    inputs = keras.Input((7,), dtype="int32")
    model = keras.Model(inputs, Custom(lambda x, w: ops.take(w, x, axis=0), (9, 4))(inputs))
    assert kl.Embedding in kinds(model)
    assert Weight not in kinds(model)
    x = RNG.integers(0, 9, (5, 7))
    np.testing.assert_array_equal(flat_model(model)(x), model(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda x, w: ops.matmul(x, w) + ops.sum(w),
        lambda x, w: ops.matmul(x, ops.transpose(w)),
        lambda x, w: ops.matmul(w, ops.transpose(x, (0, 2, 1))),
        lambda x, w: ops.einsum("btd,bdk->btk", x, ops.einsum("de,bte->bde", w, x)),
    ],
)
def test_a_weight_that_is_used_otherwise_stays(function) -> None:
    inputs = keras.Input((4, 4))
    model = keras.Model(inputs, Custom(function, (4, 4))(inputs))
    assert Weight in kinds(model) or kl.EinsumDense in kinds(model)
    x = RNG.normal(size=(5, 4, 4)).astype("float32")
    np.testing.assert_allclose(flat_model(model)(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_layer_that_is_called_twice_is_one_layer() -> None:
    inputs = keras.Input((4, 6))
    own = Custom(lambda x, w, b: x @ w + b, (6, 6), (6,), name="own")
    model = keras.Model(inputs, own(ops.relu(own(inputs))))
    calls = read(model, lambda op: False).calls
    assert [type(call.op).__name__ for call in calls] == ["Dense", "Relu", "Dense"]
    assert calls[0].op is calls[2].op
    assert flat_model(model).count_params() == model.count_params()


def test_what_holds_for_the_weight_holds_in_the_layer() -> None:
    class Held(Custom):
        def build(self, shape):
            self.w = self.add_weight(
                shape=(6, 3), regularizer="l2", constraint=keras.constraints.NonNeg(), name="w"
            )

    inputs = keras.Input((6,))
    held = Held(lambda x, w: x @ w, (6, 3), name="held")
    model = keras.Model(inputs, held(inputs))
    held.trainable = False
    (dense,) = (layer for layer in flat_model(model).layers if type(layer) is kl.Dense)
    assert not dense.trainable
    assert type(dense.kernel_regularizer) is keras.regularizers.L2
    assert type(dense.kernel_constraint) is keras.constraints.NonNeg


def test_a_weight_that_is_not_trained_stays_so() -> None:
    class Fixed(Custom):
        def build(self, shape):
            self.w = self.add_weight(shape=(6, 3), trainable=False, name="w")

    inputs = keras.Input((6,))
    model = keras.Model(inputs, Fixed(lambda x, w: x @ w, (6, 3))(inputs))
    flat = flat_model(model)
    assert flat.trainable_weights == []
    assert len(flat.non_trainable_weights) == 1
