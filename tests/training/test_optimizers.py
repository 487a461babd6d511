"""Optimizers and schedules: every name is one of Keras, wrong arguments are one line."""

import keras
import pytest

from tfprune.errors import OptionError
from tfprune.recipe.fitting import OPTIMIZERS, SCHEDULES
from tfprune.training.optimizers import make_optimizer, make_rate

NEEDED = {
    "constant": {"value": 0.1},
    "exponential_decay": {"decay_rate": 0.9},
    "inverse_time_decay": {"decay_rate": 0.9},
    "cosine_decay_restarts": {"first_decay_steps": 5},
    "piecewise_constant_decay": {"boundaries": [3], "values": [0.1, 0.01]},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_is_made_with_its_rate(name: str) -> None:
    made = make_optimizer({"name": name, "weight_decay": 1e-4}, 0.25, "[train]")
    assert type(made).__name__.lower() == name
    assert float(made.learning_rate) == 0.25
    assert made.weight_decay == 1e-4


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_made(name: str) -> None:
    needed = NEEDED.get(name, {})
    first = {} if "value" in needed or "values" in needed else {"initial_learning_rate": 0.1}
    made = make_rate({"name": name, **first, **needed}, 50, "[train]")
    assert float(made if name == "constant" else made(0)) == pytest.approx(0.1)
    assert getattr(made, "decay_steps", 50) == 50


def test_the_options_of_a_compiled_models_optimizer_are_kept() -> None:
    made = make_optimizer(keras.optimizers.SGD(0.5, momentum=0.75), 0.1, "[train]")
    assert (made.momentum, float(made.learning_rate)) == (0.75, pytest.approx(0.1))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (
            {"name": "adam", "beta1": 0.9},
            "no argument 'beta1'. Known: .* Did you mean beta_1",
        ),
        ({"name": "sgd", "momentum": 3}, "optimizer: sgd: .*momentum"),
        ("novograd", "has no 'novograd'"),
    ],
)
def test_a_wrong_optimizer_is_one_line(choice: object, message: str) -> None:
    with pytest.raises(OptionError, match=r"^\[prune\] optimizer: .*") as caught:
        make_optimizer(choice, 0.1, "[prune]")
    assert caught.match(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "constant"}, "constant takes value"),
        ({"name": "exponential_decay"}, "exponential_decay: .*decay_rate"),
        ({"name": "cosine_decay", "rate": 1}, "has no argument 'rate'"),
    ],
)
def test_a_wrong_schedule_is_one_line(choice: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        make_rate(choice, 50, "[train]")
    assert "\n" not in str(caught.value)
