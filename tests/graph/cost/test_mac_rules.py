"""Rules: einsum against an oracle, and that no layer of Keras is taken for free by accident."""

import inspect
import math
import re

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.graph.cost.mac_rules import FREE, einsum_products, register_macs, rule_of
from tfprune.graph.cost.macs import macs

# Layers with a product inside for which the walk has no rule: it looks into them or names them.
WITHOUT_RULE = {
    "Layer", "Wrapper", "Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer",
    "STFTSpectrogram", "MelSpectrogram", "Pipeline",
    "TextVectorization",
}  # fmt: skip


def einsum_macs(equation: str, shapes: list[tuple[int, ...]]) -> int:
    return sum(map(math.prod, einsum_products(equation, shapes)))


def test_every_layer_of_keras_is_known() -> None:
    classes = {
        cls.__name__: cls
        for _, cls in inspect.getmembers(keras.layers, inspect.isclass)
        if issubclass(cls, keras.layers.Layer)
    }
    assert len(classes) > 100
    nameless = {name for name, cls in classes.items() if rule_of(cls) is None}
    assert nameless <= WITHOUT_RULE


def test_no_layer_with_a_kernel_is_free() -> None:
    kernels = re.compile(r"self\.(_?kernel|recurrent_kernel|depthwise_kernel)\s*=")
    for _, cls in inspect.getmembers(keras.layers, inspect.isclass):
        if issubclass(cls, keras.layers.Layer) and rule_of(cls) is FREE:
            assert not kernels.search(inspect.getsource(cls)), cls


@given(
    st.sampled_from(["ij,jk->ik", "bij,bjk->bik", "ab,bc,cd->ad", "abc,cd,be->ade", "ij,kl->ijkl"]),
    st.lists(st.integers(2, 6), min_size=5, max_size=5),
)
def test_an_einsum_costs_what_numpy_says_of_its_best_order(equation: str, sides: list[int]) -> None:
    labels = sorted(set(equation) - set(",->"))
    size = dict(zip(labels, sides, strict=False))
    shapes = [tuple(size[label] for label in term) for term in equation.split("->")[0].split(",")]
    arrays = [np.broadcast_to(0.0, shape) for shape in shapes]
    report = np.einsum_path(equation, *arrays, optimize="optimal")[1]
    found = einsum_macs(equation, shapes)
    if len(shapes) == 2:
        assert found == math.prod(size[label] for label in labels)
    else:
        # Numpy counts a multiplication and an addition where something is summed.
        flops = float(re.search(r"Optimized FLOP count:\s*(\S+)", report).group(1))
        assert flops / 2 - 1 <= found <= flops


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("...ab,bc->...ac", [(5, 6, 2, 3), (3, 4)], 5 * 6 * 2 * 3 * 4),
        ("a...,b->...ab", [(2, 7), (3,)], 2 * 7 * 3),
        ("ii->i", [(4, 4)], 0),
        ("ij , jk -> ik", [(2, 3), (3, 4)], 24),
    ],
)
def test_an_einsum_by_hand_arithmetic(equation, shapes, expected) -> None:
    assert einsum_macs(equation, shapes) == expected


def test_a_rule_of_ones_own_is_used() -> None:
    class Cube(keras.layers.Layer):
        def call(self, x):
            return x**3

    @register_macs(Cube)
    def cube(op, tensors, cost):
        return 2 * math.prod(tensors.y)

    model = keras.Sequential([keras.Input((5,)), Cube()])
    assert macs(model).total == 10
