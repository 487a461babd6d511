"""Kinds: what is read, what is refused, with which hint."""

import datetime
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.measure.devices.registry import devices
from tfprune.recipe import kinds
from tfprune.sparsity.choices import allocation, scores


@given(st.floats(0, 1, exclude_max=True))
def test_a_fraction_is_read_as_it_is(value: float) -> None:
    assert kinds.FRACTION.read(value) == value


@pytest.mark.parametrize(
    ("kind", "value", "hint"),
    [
        (kinds.FRACTION, 80, "Did you mean 0.8?"),
        (kinds.FRACTION, 1.0, ""),
        (kinds.FRACTION, -0.1, ""),
        (kinds.FRACTION, "0.8", "Did you mean 0.8, without quotes?"),
        (kinds.FRACTION, float("nan"), ""),
        (kinds.POSITIVE, 0, ""),
        (kinds.POSITIVE, "1/255", "Did you mean 0.00392156862745098?"),
        (kinds.POSITIVE, "1/0", ""),
        (kinds.POSITIVE, True, ""),
        (kinds.NOT_NEGATIVE, -1, ""),
        (kinds.RATIO, 0.5, ""),
        (kinds.whole(1), 0, ""),
        (kinds.whole(1), 2.6, "Did you mean 3?"),
        (kinds.whole(0), float("inf"), ""),
        (kinds.TEXT, "  ", ""),
        (kinds.TEXT, 3, ""),
        (kinds.NAMES, 3, ""),
        (kinds.NAMES, ["conv", 3], ""),
        (kinds.NAMES, [""], ""),
        (kinds.NAMES, ["conv("], "'conv(' is not a regular expression"),
        (kinds.SIZES, 3, ""),
        (kinds.SIZES, [], ""),
        (kinds.SIZES, [8.5, 3], "Did you mean 8?"),
        (kinds.SIZES, [0, 3], ""),
        (kinds.OPTIONS, "width", ""),
        (kinds.choice("adam", "sgd"), "adm", "Did you mean adam?"),
        (kinds.choice("adam", "sgd"), 7, ""),
        (kinds.YES_OR_NO, "yes", ""),
        (kinds.YES_OR_NO, 1, ""),
    ],
)
def test_a_wrong_value_is_refused_with_its_hint(kind: kinds.Kind, value: object, hint: str) -> None:
    with pytest.raises(kinds.Refused) as refused:
        kind.read(value)
    assert str(refused.value).startswith(hint)
    assert bool(str(refused.value)) == bool(hint)


def test_what_is_read_has_the_type_of_its_field() -> None:
    assert kinds.NAMES.read("conv.*") == ("conv.*",)
    assert kinds.NAMES.read(["a", "b"]) == ("a", "b")
    assert kinds.SIZES.read([8, 3]) == (8, 3)
    whole = kinds.whole(1).read(3.0)
    assert (whole, type(whole)) == (3, int)
    assert type(kinds.POSITIVE.read(3)) is float


def test_a_registry_is_asked_for_its_names() -> None:
    score = kinds.resolved(scores.resolve_score, "the name of a score")
    assert score.read("magnitude") == "magnitude"
    with pytest.raises(kinds.Refused, match="Did you mean magnitude"):
        score.read("magnitud")
    shares = kinds.resolved(allocation.resolve_allocation, "a name or a table", str | Mapping)
    assert shares.read({"conv": 0.5}) == {"conv": 0.5}
    with pytest.raises(kinds.Refused, match=r"Did you mean 0\.5"):
        shares.read({"conv": 50})
    with pytest.raises(kinds.Refused):
        score.read({"conv": 0.5})


def test_a_device_may_have_an_address() -> None:
    device = kinds.registered(devices, "the name of a device")
    assert device.read("adb:emulator-5554") == "adb:emulator-5554"
    for wrong in ("hosst", "hosst:3", 3):
        with pytest.raises(kinds.Refused, match="Known: adb, host"):
            device.read(wrong)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (80, "80"),
        ("a", '"a"'),
        ([1, "a"], '[1, "a"]'),
        ({"a": 1}, "{ a = 1 }"),
        (datetime.date(2026, 1, 2), "2026-01-02 (datetime.date)"),
    ],
)
def test_values_are_shown_as_toml(value: object, text: str) -> None:
    assert kinds.show(value) == text
