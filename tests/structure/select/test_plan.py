from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as kl

import tfprune
from tfprune.errors import ArtifactError, OptionError
from tfprune.structure.select.plan import Plan, Removal


def net(width=16):
    inputs = keras.Input((4,))
    x = kl.Dense(width, name="a")(inputs)
    x = x + kl.Dense(width, name="b")(kl.Dense(12, name="c")(x))
    return keras.Model(inputs, kl.Dense(2, name="out")(x), name="net")


def test_a_saved_and_loaded_plan_gives_the_same_model(tmp_path: Path) -> None:
    model = net()
    small, report = tfprune.shrink(model, {"params": 0.5}, round_to=1)
    report.plan.save(tmp_path / "plan.json")
    plan = tfprune.Plan.load(tmp_path / "plan.json")
    assert plan == report.plan
    again, second = tfprune.shrink(model, plan)
    assert second.plan == plan
    for old, new in zip(small.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    trained = net()
    other, _ = tfprune.shrink(trained, plan)
    assert [w.shape for w in other.get_weights()] == [w.shape for w in small.get_weights()]


def test_layers_with_automatic_names_are_found_with_other_numbers() -> None:
    """`dense_1` of one build may be another layer in the next."""

    def plain():
        layers = [kl.Dense(16, activation="relu") for _ in range(3)]
        return keras.Sequential([keras.Input((4,)), *layers, kl.Dense(2)])

    keras.backend.clear_session(free_memory=False)
    first = plain()
    kept = first.layers[1].name
    assert kept == "dense_1"
    small, report = tfprune.shrink(first, None, ratios={f"^{kept}$": 0.5})
    keras.backend.clear_session(free_memory=False)
    kl.Dense(1)  # so that the names begin at dense_1
    later = plain()
    assert later.layers[0].name == kept
    plan = Plan.from_json(report.plan.to_json())
    assert plan == report.plan
    again, _ = tfprune.shrink(later, plan)
    assert [w.shape for w in again.get_weights()] == [w.shape for w in small.get_weights()]


def test_a_plan_written_by_hand_is_applied() -> None:
    plan = tfprune.Plan("net", (Removal("c", "units", 12, (0, 3)),))
    model = net()
    small, _ = tfprune.shrink(model, plan)
    kept = [p for p in range(12) if p not in (0, 3)]
    np.testing.assert_array_equal(
        small.get_layer("c").get_weights()[0], model.get_layer("c").get_weights()[0][:, kept]
    )


@pytest.mark.parametrize(
    ("removal", "message"),
    [
        (Removal("c", "units", 13, (0,)), "c.units should have 13 positions.*has 12 positions"),
        (Removal("x", "units", 12, (0,)), "no such axis"),
        (Removal("c", "units", 12, (12,)), "has no position 12"),
        (Removal("out", "units", 2, (0,)), "1 of its units cannot be removed"),
        (Removal("c", "units", 12, tuple(range(12))), "removes all units of"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(removal, message) -> None:
    with pytest.raises(OptionError, match=message):
        tfprune.shrink(net(), tfprune.Plan("net", (removal,)))


@pytest.mark.parametrize("data", [{}, {"model": "m", "removals": [{"layer": 1}]}, []])
def test_other_objects_than_plans_are_refused(data) -> None:
    with pytest.raises(OptionError, match="this is not a plan"):
        tfprune.Plan.from_json(data)


def test_a_file_that_is_not_a_plan_is_a_one_line_error(tmp_path: Path) -> None:
    plan = tfprune.Plan("net", ())
    with pytest.raises(OptionError, match="is a folder; give the name of a file in it"):
        plan.save(tmp_path)
    with pytest.raises(ArtifactError, match="gone.json: no such file; save a plan to it first"):
        tfprune.Plan.load(tmp_path / "gone.json")
    with pytest.raises(ArtifactError, match="cannot be read"):
        tfprune.Plan.load(tmp_path)
    for junk in (b"", b"junk", b"\xff\xfe\x00"):
        (tmp_path / "junk.json").write_bytes(junk)
        with pytest.raises(ArtifactError, match="junk.json: not a plan that tfprune wrote"):
            tfprune.Plan.load(tmp_path / "junk.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(OptionError, match="this is not a plan"):
        tfprune.Plan.load(tmp_path / "list.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": [1.7]}, "whole numbers, not 1.7"),
        ({"positions": "12"}, "whole numbers, not '1'"),
        ({"size": True}, "whole numbers, not True"),
    ],
)
def test_positions_are_whole_numbers(change, message) -> None:
    line = {"layer": "a", "axis": "units", "size": 8, "positions": [1], **change}
    with pytest.raises(OptionError, match=message):
        Plan.from_json({"model": "net", "removals": [line]})


@pytest.mark.parametrize(
    ("data", "message"),
    [([], "a dict as Plan.to_json returns it.*Received list"), ({"model": "x"}, "no 'removals'")],
)
def test_the_error_names_what_is_wrong_with_a_plan(data, message) -> None:
    with pytest.raises(OptionError, match=message):
        Plan.from_json(data)
