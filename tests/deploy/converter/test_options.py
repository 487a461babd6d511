"""Options of a conversion: what is allowed, and what the refusal says."""

import numpy as np
import pytest

from tfprune.deploy.converter.options import (
    Options,
    check_allowed,
    check_bound,
    check_calibration,
    check_io,
    check_layers,
    check_time_limit,
    settings_for,
)
from tfprune.errors import FilterError, OptionError
from tfprune.runtime.schemes import SCHEMES


@pytest.mark.parametrize("name", list(SCHEMES))
def test_every_scheme_has_the_first_of_its_types_unless_told(name: str) -> None:
    plan = SCHEMES[name]
    assert check_io(name, plan, None) == plan.io[0]
    for io in plan.io:
        assert check_io(name, plan, io) == io
    with pytest.raises(
        OptionError, match=f"io: scheme '{name}' allows {plan.io[0]}.*Received 'int3'"
    ):
        check_io(name, plan, "int3")


@pytest.mark.parametrize("name", list(SCHEMES))
def test_integers_need_samples_and_floats_do_not(name: str) -> None:
    plan = SCHEMES[name]
    check_calibration(name, plan, True)
    if plan.needs_calibration:
        with pytest.raises(OptionError, match=f"scheme '{name}' needs samples"):
            check_calibration(name, plan, False)
    else:
        check_calibration(name, plan, False)


def test_a_bound_is_a_positive_number() -> None:
    assert check_bound(None) is None
    assert check_bound(0.1) == 0.1
    assert type(check_bound(np.float32(0.5))) is float
    with pytest.raises(OptionError, match="expected a positive number. Received True"):
        check_bound(True)
    for wrong in (0, -1, float("inf"), float("nan"), "1"):
        with pytest.raises(OptionError, match="bound: expected a positive number"):
            check_bound(wrong)


def test_a_time_limit_is_a_positive_number() -> None:
    check_time_limit(0.5)
    for wrong in (0, -1, float("nan"), "a", None, True):
        with pytest.raises(OptionError, match="time_limit_s: expected a positive number of sec"):
            check_time_limit(wrong)


def test_only_some_schemes_go_layer_by_layer() -> None:
    for wrong in ("h", ["h"], {3: "int4"}):
        with pytest.raises(OptionError, match="layers: expected a dict from regular expressions"):
            check_layers("int4", SCHEMES["int4"], wrong)
    assert check_layers("int8", SCHEMES["int8"], {}) is None
    with pytest.raises(OptionError, match=r"per layer, use one of int4, weight_int8, weight_int4"):
        check_layers("int8", SCHEMES["int8"], {"head": "float32"})


def test_layers_become_rules(quantizer: None) -> None:
    assert check_layers("int4", SCHEMES["int4"], {"head": "float32"}) == [
        (".*", 4, False), ("head", None, False)
    ]  # fmt: skip
    with pytest.raises(FilterError, match="not a regular expression"):
        check_layers("int4", SCHEMES["int4"], {"(": "float32"})


def test_operations_that_may_stay_float_have_names() -> None:
    with pytest.raises(OptionError, match="expected a list of operation names. Received 3"):
        check_allowed(3)
    with pytest.raises(OptionError, match="unknown operation 3"):
        check_allowed([3])
    assert check_allowed(["SOFTMAX"]) == {"SOFTMAX"}
    with pytest.raises(OptionError, match=r"unknown operation 'SOFTMX'.*Did you mean SOFTMAX\?"):
        check_allowed(["SOFTMX"])
    with pytest.raises(OptionError, match="expected a list of operation names. Received 'SOFTMAX'"):
        check_allowed("SOFTMAX")


@pytest.mark.parametrize("name", list(SCHEMES))
def test_settings_are_the_options_and_else_the_values_of_the_scheme(
    name: str, quantizer: None
) -> None:
    plan = SCHEMES[name]
    own = settings_for(name, Options())
    assert (own.name, own.plan, own.io, own.bound) == (name, plan, plan.io[0], plan.bound)
    assert (own.batch, own.allowed) == (None, frozenset())
    assert (own.rules is None) == (plan.weight_bits is None)
    assert own.rounding == ("learned" if "int4" in name else "nearest")
    options = Options(batch=3, allow_float=["SIN"], bound=0.5, time_limit_s=7.0, io=plan.io[-1])
    given = settings_for(name, options)
    assert (given.batch, given.allowed, given.bound) == (3, {"SIN"}, 0.5)
    assert (given.limit_s, given.io) == (7.0, plan.io[-1])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"io": "int3"}, "io: scheme 'float32' allows float32. Received 'int3'"),
        ({"batch": 0}, "batch: expected a positive integer"),
        ({"layers": {"head": "int4"}}, "layers: scheme 'float32' applies to the whole model"),
        ({"allow_float": ["SINN"]}, "allow_float: unknown operation 'SINN'"),
        ({"bound": 0}, "bound: expected a positive number"),
        ({"rounding": "learnt"}, "rounding: unknown value 'learnt'. Known: corrected, learned"),
        ({"time_limit_s": 0}, "time_limit_s: expected a positive number"),
    ],
    ids=str,
)
def test_an_option_that_does_not_fit_the_scheme_is_refused(option, message) -> None:
    with pytest.raises(OptionError, match=message):
        settings_for("float32", Options(**option))
