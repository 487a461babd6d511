import numpy as np
import pytest

from tfprune.errors import OptionError
from tfprune.structure.select.target import Target, check_target, parse_target


@pytest.mark.parametrize(
    ("target", "now", "limit"),
    [
        ({"macs": 0.5}, 1000, 500),
        ({"macs": np.int64(300)}, 1000, 300),
        ({"params": 200}, 1000, 200),
        ({"tflite_bytes": 1}, 70, 70),
    ],
)
def test_shares_and_amounts(target, now, limit) -> None:
    assert parse_target(target).limit(now) == limit


def test_a_target_is_data() -> None:
    assert parse_target({"macs": 0.5}) == Target("macs", 0.5)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (0.5, "expected a dict of one cost"),
        ({}, "expected a dict of one cost"),
        ({"macs": 0.5, "params": 0.5}, "expected a dict of one cost"),
        ({"mac": 0.5}, "unknown cost 'mac'.*Did you mean macs"),
        ({"macs": 0}, "expected a share in"),
        ({"macs": True}, "expected a share in"),
        ({"macs": "half"}, "Received 'half'"),
        ({"macs": float("nan")}, "Received nan"),
        ({"macs": float("inf")}, "Received inf"),
        ({"blocks": 0}, "of the removable blocks to remove. Received 0$"),
    ],
)
def test_invalid_targets_are_refused(target, message) -> None:
    with pytest.raises(OptionError, match=message):
        parse_target(target)


def test_a_recipe_may_have_the_target_zeros() -> None:
    check_target("zeros")
    check_target({"blocks": 0.5})
    with pytest.raises(OptionError, match="no stage of a run adds gates"):
        check_target("gates")
    with pytest.raises(OptionError, match="expected a dict of one cost"):
        check_target("zero")
