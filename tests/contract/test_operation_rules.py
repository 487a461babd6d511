"""The contract of every operation rule; one without an example fails until it has one."""

import keras
import numpy as np
import pytest

import tfprune
from tests.contract.operation_examples import EXAMPLES, WIDTH, Example, elementwise, is_there
from tests.keras_release import KERAS
from tfprune.structure import shrink
from tfprune.structure.ids.rule_registry import _ELEMENTWISE, _OPS

# All rules are in the table once `shrink` has been imported.
assert shrink.shrink is tfprune.shrink


@pytest.fixture(autouse=True, scope="module")
def _fresh_session():
    yield
    keras.backend.clear_session(free_memory=False)


NEWEST = (3, 15)
"""The Keras that has every operation of the table; an older one lacks some."""


def example_of(name: str) -> Example:
    """The example of an operation; elementwise ones need none of their own."""
    if KERAS < NEWEST and not is_there(name):
        pytest.skip(f"Keras {keras.__version__} has no operation {name}")
    if name in EXAMPLES:
        return EXAMPLES[name]
    if _OPS[name] in _ELEMENTWISE:
        return elementwise(name)
    return pytest.fail(
        f"{name} has a rule and no example: add one to EXAMPLES in "
        "tests/contract/operation_examples.py"
    )


def test_the_examples_are_of_operations_that_have_rules() -> None:
    assert set(EXAMPLES) <= set(_OPS)


@pytest.mark.parametrize("name", _OPS)
def test_half_of_the_units_before_an_operation_are_removed_or_a_reason_is_given(name: str) -> None:
    example = example_of(name)
    model = example.model()
    assert name in {type(op).__name__ for op in model.operations}
    found = tfprune.units(model)
    if example.frozen:
        reasons = [line.reason for line in found.frozen if line.layer == "before"]
        assert any(example.frozen in reason for reason in reasons), found.frozen
        return
    assert [len(group.units) for group in found if "before" in group.layers]
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error is not None
    assert report.error <= 1e-4
    assert small.get_layer("before").units == WIDTH // 2
    assert small.count_params() < model.count_params()


@pytest.mark.parametrize("name", [name for name in _OPS if _OPS[name] in _ELEMENTWISE])
def test_elementwise_operations_read_only_the_inputs_at_the_same_position(name: str) -> None:
    """Such an operation may be part of an activation, where no other rule is applied."""
    call = example_of(name).call
    x = np.random.default_rng(0).normal(size=(2, WIDTH)).astype("float32")
    order = np.random.default_rng(1).permutation(WIDTH)
    plain, permuted = (
        keras.ops.convert_to_numpy(call(keras.ops.convert_to_tensor(array)))
        for array in (x, x[:, order])
    )
    np.testing.assert_array_equal(permuted, plain[:, order])
