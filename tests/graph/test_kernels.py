import keras
import numpy as np
import pytest

import tfprune
from tfprune.graph.kernels import PrunableKernel, find_kernels

L = keras.layers


def built(layer, *shape):
    layer.build(*[(None, *s) for s in shape])
    return layer


LAYERS = {
    # layer: (kernels, (outer, inputs, outputs) of the first)
    "Dense": (lambda: built(L.Dense(5), (4,)), ["kernel"], (1, 4, 5)),
    "Conv1D": (lambda: built(L.Conv1D(5, 3), (9, 4)), ["kernel"], (3, 4, 5)),
    "Conv2D": (lambda: built(L.Conv2D(5, (3, 2)), (9, 9, 4)), ["kernel"], (6, 4, 5)),
    "Conv2D, grouped": (lambda: built(L.Conv2D(6, 3, groups=2), (9, 9, 4)), ["kernel"], (9, 2, 6)),
    "Conv3D": (lambda: built(L.Conv3D(5, 2), (9, 9, 9, 4)), ["kernel"], (8, 4, 5)),
    "Conv2DTranspose": (lambda: built(L.Conv2DTranspose(5, 3), (9, 9, 4)), ["kernel"], (9, 4, 5)),
    "SeparableConv2D": (
        lambda: built(L.SeparableConv2D(5, 3), (9, 9, 4)), ["pointwise_kernel"], (1, 4, 5)),
    "DepthwiseConv2D": (lambda: built(L.DepthwiseConv2D(3), (9, 9, 4)), [], None),
    "Embedding": (lambda: built(L.Embedding(7, 3), (4,)), ["embeddings"], (1, 7, 3)),
    "LSTM": (lambda: built(L.LSTM(5), (9, 4)), ["kernel", "recurrent_kernel"], (1, 4, 20)),
    "GRU": (lambda: built(L.GRU(5), (9, 4)), ["kernel", "recurrent_kernel"], (1, 4, 15)),
    "Bidirectional": (
        lambda: built(L.Bidirectional(L.LSTM(5)), (9, 4)),
        ["kernel", "recurrent_kernel"] * 2, (1, 4, 20)),
    "TimeDistributed": (
        lambda: built(L.TimeDistributed(L.Dense(5)), (9, 4)), ["kernel"], (1, 4, 5)),
    "MultiHeadAttention": (
        lambda: built(L.MultiHeadAttention(2, 3), (9, 8), (9, 8)), ["kernel"] * 4, (1, 8, 6)),
    "EinsumDense": (
        lambda: built(L.EinsumDense("abc,bcd->abd", (6, 5)), (6, 4)), ["kernel"], (6, 4, 5)),
    "BatchNormalization": (lambda: built(L.BatchNormalization(), (4,)), [], None),
    "PReLU": (lambda: built(L.PReLU(), (9, 4)), [], None),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_the_kernels_of_a_layer_and_their_views(name: str) -> None:
    make, names, shape = LAYERS[name]
    kernels, skipped = find_kernels([make()])
    assert [kernel.variable.name for kernel in kernels] == names
    assert bool(skipped) == (not names)
    if kernels:
        weights = kernels[0].variable.value.numpy()
        view = kernels[0].view(weights)
        assert view.shape == shape
        np.testing.assert_array_equal(kernels[0].unview(view), weights)


def test_the_input_axis_is_the_one_that_is_summed_over() -> None:
    transposed = built(L.Conv2DTranspose(2, 1), (5, 5, 3))
    (kernel,) = find_kernels([transposed])[0]
    weights = kernel.variable.value.numpy()
    np.testing.assert_array_equal(kernel.view(weights)[0], weights[0, 0].T)


def test_attention_outputs_are_contracted_over_heads_and_values() -> None:
    attention = built(L.MultiHeadAttention(2, 3, value_dim=4), (9, 8), (9, 8))
    kernels = find_kernels([attention])[0]
    shapes = [kernel.view(kernel.variable.value.numpy()).shape for kernel in kernels]
    assert sorted(shapes) == [(1, 8, 6), (1, 8, 6), (1, 8, 8), (1, 8, 8)]


class Unknown(keras.layers.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=(shape[-1], 4), name="table")

    def call(self, x):
        return x @ self.table


class Known(Unknown, tfprune.PrunableLayer):
    def get_prunable_weights(self):
        return [self.table]


class Mine(keras.layers.Dense):
    """A subclass of a known layer."""


class Block(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Dense(3)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def test_kernels_of_custom_layers_are_found() -> None:
    assert [k.variable.name for k in find_kernels([built(Mine(3), (4,))])[0]] == ["kernel"]
    assert [k.variable.name for k in find_kernels([built(Block(), (4,))])[0]] == ["kernel"]
    assert [k.variable.name for k in find_kernels([built(Known(), (4,))])[0]] == ["table"]
    kernels, (skipped,) = find_kernels([built(Unknown(), (4,))])
    assert kernels == []
    assert skipped.kind.endswith(".Unknown")
    assert "get_prunable_weights" in skipped.reason
    assert not skipped.usual


def test_a_shared_layer_is_one_kernel() -> None:
    shared = keras.layers.Dense(4)
    x = keras.Input((4,))
    model = keras.Model(x, shared(shared(x)))
    assert len(find_kernels([model])[0]) == 1
    assert len(find_kernels([shared, model])[0]) == 1


def test_kernels_come_in_the_order_of_the_layers() -> None:
    inner = keras.Sequential([L.Dense(3, name="b"), L.Dense(3, name="c")])
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="a"), inner, L.Dense(3, name="d")])
    assert [kernel.layer.name for kernel in find_kernels([model])[0]] == list("abcd")
    attention = built(L.MultiHeadAttention(2, 3), (9, 8), (9, 8))
    names = [kernel.layer.name for kernel in find_kernels([attention])[0]]
    assert names == ["query", "key", "value", "attention_output"]


def test_equal_paths_are_told_apart() -> None:
    def branch(name):
        x = keras.Input((4,))
        return keras.Model(x, keras.layers.Dense(3, name="same")(x), name=name)

    x = keras.Input((4,))
    model = keras.Model(x, [branch("a")(x), branch("b")(x)])
    assert [kernel.path for kernel in find_kernels([model])[0]] == ["same/kernel", "same/kernel#2"]


def test_quantized_and_lora_layers_are_skipped_and_named() -> None:
    dense = built(L.Dense(8), (8,))
    dense.quantize("int8")
    lora = built(L.Dense(8), (8,))
    lora.enable_lora(2)
    kernels, skipped = find_kernels([dense, lora])
    assert kernels == []
    assert "already quantized" in skipped[0].reason
    assert "merge it" in skipped[1].reason


def test_a_kernel_has_its_path_and_its_layers_name() -> None:
    (kernel,) = find_kernels([built(L.Dense(3, name="head"), (4,))])[0]
    assert isinstance(kernel, PrunableKernel)
    assert kernel.names() == [kernel.path, "head"]


class Own(L.Layer):
    """A layer with a weight of its own, of this shape, that computes a function of it."""

    def __init__(self, shape, function, **kwargs):
        super().__init__(**kwargs)
        self.own, self.function = shape, function

    def build(self, shape):
        self.weight = self.add_weight(shape=self.own, initializer="random_normal", name="weight")

    def call(self, x):
        return self.function(x, self.weight)


ops = keras.ops
PRODUCTS = {
    "matmul": ((6, 5), lambda x, w: x @ w, ((), (0,), (1,))),
    "matmul with its transpose": ((5, 6), lambda x, w: x @ ops.transpose(w), ((), (1,), (0,))),
    "matmul of the weight": (
        (5, 4), lambda x, w: ops.matmul(w, x), ((), (1,), (0,))),
    "one matrix for each step": (
        (4, 6, 5), lambda x, w: ops.einsum("btd,tdk->btk", x, w), ((0,), (1,), (2,))),
    "heads": ((6, 2, 3), lambda x, w: ops.einsum("btd,dhk->bthk", x, w), ((), (0,), (1, 2))),
    "convolution": ((3, 6, 5), lambda x, w: ops.conv(x, w), ((0,), (1,), (2,))),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_weight_that_a_product_reads_is_a_kernel(name) -> None:
    shape, function, axes = PRODUCTS[name]
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, Own(shape, function, name="own")(inputs))
    (kernel,), skipped = find_kernels([model])
    assert kernel.variable is model.get_layer("own").weight
    assert kernel.axes == axes
    assert skipped == []
    tfprune.prune(model, 0.5)
    assert tfprune.sparsity_of(model).sparsity == pytest.approx(0.5)


def test_a_table_that_is_added_is_no_kernel() -> None:
    inputs = keras.Input((4, 6))
    model = keras.Model(
        inputs, L.Dense(2, name="dense")(Own((4, 6), lambda x, w: x + w, name="own")(inputs))
    )
    kernels, (skipped,) = find_kernels([model])
    assert [kernel.layer.name for kernel in kernels] == ["dense"]
    assert (skipped.layer, skipped.usual) == ("own", True)
    assert "no product reads its weights" in skipped.reason


class WithBias(keras.layers.Dense, tfprune.PrunableLayer):
    def get_prunable_weights(self):
        return [self.kernel, self.bias]


def test_a_layer_is_asked_for_its_weights_when_it_has_them() -> None:
    layer = WithBias(4, bias_initializer="normal")
    assert find_kernels([layer]) == ([], [])
    tfprune.prune_low_magnitude(layer, tfprune.ConstantSparsity(0.5, 0))
    model = keras.Sequential([keras.Input((8,)), layer])
    model.compile("sgd", "mse")
    callbacks = [tfprune.UpdatePruningStep()]
    model.fit(np.ones((8, 8)), np.ones((8, 4)), verbose=0, callbacks=callbacks)
    assert [np.count_nonzero(w.numpy()) for w in layer.weights] == [16, 2]


class Cell(keras.layers.SimpleRNNCell, tfprune.PrunableLayer):
    def get_prunable_weights(self):
        return [self.recurrent_kernel]


def test_cells_inside_a_recurrent_layer_are_asked_too() -> None:
    rnn = tfprune.prune_low_magnitude(keras.layers.RNN([Cell(4), Cell(3)]))
    model = keras.Sequential([keras.Input((5, 4)), rnn])
    held = [row.path for row in tfprune.sparsity_of(model) if row.held]
    assert len(held) == 2
    assert all(path.endswith("recurrent_kernel") for path in held)


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [("unstructured", [16, 2]), ("block(2,1)", [16, 2]), ("2:4", [16, 4])],
)
def test_a_bias_is_pruned_without_inputs(pattern, kept) -> None:
    layer = built(WithBias(4, bias_initializer="normal"), (8,))
    assert tfprune.prune(layer, 0.5, pattern=pattern) is layer
    assert [np.count_nonzero(w.numpy()) for w in layer.weights] == kept


@pytest.mark.parametrize("allocation", ["global", "erk"])
def test_allocations_take_a_bias(allocation) -> None:
    layer = built(WithBias(4, bias_initializer="normal"), (8,))
    tfprune.prune(layer, 0.5, allocation=allocation)
    assert sum(np.count_nonzero(w.numpy()) for w in layer.weights) == 18
