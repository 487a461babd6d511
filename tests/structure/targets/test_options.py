import keras
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import OptionError
from tfprune.structure.select.plan import Plan
from tfprune.structure.select.target import Target
from tfprune.structure.targets.options import TARGETS, ShrinkOptions

USUAL = {
    "importance": "l2",
    "ranking": "global",
    "data": None,
    "loss": None,
    "round_to": 8,
    "only": (),
    "skip": (),
    "ratios": None,
    "cap": 0.95,
    "heads": True,
    "verify": True,
    "repair": None,
    "seed": 0,
    "input_shape": None,
}


@pytest.mark.parametrize(
    ("target", "kind", "cost"),
    [
        ({"macs": 0.5}, "cost", Target("macs", 0.5)),
        ({"blocks": 0.25}, "blocks", Target("blocks", 0.25)),
        ("zeros", "closed", None),
        ("gates", "closed", None),
        (Plan("net", ()), "plan", None),
    ],
)
def test_a_target_is_of_one_kind(target, kind: str, cost: Target | None) -> None:
    given = ShrinkOptions(target=target, **USUAL)
    assert (given.kind, given.cost) == (kind, cost)
    assert kind in TARGETS


def test_ratios_alone_are_a_cost_without_a_limit() -> None:
    given = ShrinkOptions(target=None, **{**USUAL, "ratios": {"conv": 0.5}})
    assert (given.kind, given.cost) == ("cost", None)


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ({"blocks": 0.5}, {"ratios": {"a": 0.5}}, "target blocks: ratios= and repair= apply to"),
        ({"blocks": 0.5}, {"repair": [1]}, "target blocks: ratios= and repair= apply to"),
        ("zeros", {"only": ("a",)}, "target zeros: it determines what is removed: leave out only="),
        ("gates", {"skip": ("a",)}, "target gates: it determines what is removed"),
        (Plan("net", ()), {"ratios": {"a": 0.5}}, "target plan: it determines what is removed"),
        ("gates", {"repair": [1]}, "target gates: it is exact and needs no repair"),
        ("ones", {}, "shrink target: expected a dict of one cost"),
        (None, {"ratios": {}}, "None is allowed only with ratios="),
    ],
)
def test_options_that_cannot_be_combined_are_refused(target, options, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ShrinkOptions(target=target, **{**USUAL, **options})


def test_options_are_frozen() -> None:
    given = ShrinkOptions(target="zeros", **USUAL)
    with pytest.raises(AttributeError):
        given.target = "gates"


def test_options_have_the_names_of_the_arguments_of_shrink() -> None:
    """They are all arguments except the model and the progress."""
    names = tfprune.shrink.__kwdefaults__.keys() - {"progress"}
    assert names == USUAL.keys()
    assert {name: tfprune.shrink.__kwdefaults__[name] for name in names} == USUAL


def test_a_kind_of_target_can_be_added(monkeypatch) -> None:
    model = keras.Sequential([keras.Input((4,)), kl.Dense(3, name="hidden"), kl.Dense(2)])
    right = TARGETS["cost"]
    seen = []
    monkeypatch.setitem(
        TARGETS._entries, "cost", lambda found, given: seen.append(given) or right(found, given)
    )
    tfprune.shrink(model, {"channels": 0.5}, round_to=1, seed=3)
    assert [(given.cost, given.seed) for given in seen] == [(Target("channels", 0.5), 3)]
