"""The contract of every layer rule; a class without an example fails until it has one."""

import keras
import pytest

import tfprune
from tests.contract.layer_examples import EXAMPLES, WIDTH
from tfprune.structure import shrink
from tfprune.structure.ids.rule_registry import find, known_layers

# All rules are in the table once `shrink` has been imported.
assert shrink.shrink is tfprune.shrink
KNOWN = {kind.__name__: kind for kind in known_layers()}


@pytest.fixture(autouse=True, scope="module")
def _fresh_session():
    yield
    keras.backend.clear_session(free_memory=False)


def test_the_examples_are_of_layers_that_have_rules() -> None:
    assert len(KNOWN) > 50
    there = {name for name in EXAMPLES if hasattr(keras.layers, name)}
    assert there <= set(KNOWN)


@pytest.mark.parametrize("name", KNOWN)
def test_half_of_the_units_before_a_layer_are_removed_or_a_reason_is_given(name: str) -> None:
    if name not in EXAMPLES:
        pytest.fail(
            f"{name} has a rule and no example: add one to EXAMPLES in "
            "tests/contract/layer_examples.py"
        )
    example = EXAMPLES[name]
    model = example.model()
    before = [weight.copy() for weight in model.get_weights()]
    used = [layer for layer in model.layers if type(layer) is KNOWN[name]]
    assert used, f"the example of {name} has no such layer"
    assert find(used[0]) is not None
    found = tfprune.units(model)
    if example.frozen:
        reasons = [line.reason for line in found.frozen if line.layer == "before"]
        assert any(example.frozen in reason and used[0].name in reason for reason in reasons)
        return
    small, report = tfprune.shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)
    assert report.error is not None
    assert report.error <= 1e-4
    assert small.get_layer("before").get_weights()[0].shape[-1] == WIDTH // 2
    assert small.count_params() == report.after.params < report.before.params
    assert small.output_shape == model.output_shape
    for old, new in zip(before, model.get_weights(), strict=True):
        assert (old == new).all()
