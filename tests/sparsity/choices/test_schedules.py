import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tfprune.errors import OptionError
from tfprune.sparsity.choices.schedules import (
    ConstantSparsity,
    Geometric,
    OneShot,
    PolynomialDecay,
    PruningSchedule,
)

ramps = st.builds(
    lambda begin, length, frequency, power: PolynomialDecay(
        0.1, 0.8, begin, begin + length, power=power, frequency=frequency
    ),
    st.integers(0, 50),
    st.integers(0, 200),
    st.integers(1, 120),
    st.sampled_from([1, 2, 3, 0.5]),
)


@given(ramps, st.integers(0, 300))
def test_a_ramp_never_falls_and_stays_between_its_ends(ramp: PolynomialDecay, step: int) -> None:
    now, later = ramp(step)[1], ramp(step + 1)[1]
    assert 0.1 <= now <= later + 1e-7
    assert later <= 0.8


@given(ramps)
def test_the_final_sparsity_is_due_at_the_last_step(ramp: PolynomialDecay) -> None:
    assert ramp(ramp.end_step) == (True, 0.8)
    assert not ramp(ramp.end_step + 1)[0]
    assert ramp(ramp.begin_step)[0]


@given(
    st.one_of(
        ramps,
        st.builds(ConstantSparsity, st.just(0.5), st.integers(0, 20), st.just(-1),
                  st.integers(1, 30)),
        st.builds(Geometric, st.just(0.9), st.integers(1, 5), st.integers(1, 40),
                  st.integers(0, 20)),
        st.just(OneShot(0.3)),
    ),
    st.integers(0, 400),
)  # fmt: skip
def test_the_last_due_step_is_the_one_found_by_going_back(schedule, step: int) -> None:
    assert schedule.last_due(step) == PruningSchedule.last_due(schedule, step)


def test_a_ramp_that_ends_off_its_frequency_reaches_the_end() -> None:
    # (199 - 0) is no multiple of 100: the peer stops at .7015.
    ramp = PolynomialDecay(0.0, 0.8, begin_step=0, end_step=199, frequency=100)
    assert [s for s in range(400) if ramp(s)[0]] == [0, 100, 199]
    assert ramp(199)[1] == 0.8


def test_constant_sparsity_goes_on_for_ever_unless_it_ends() -> None:
    assert [s for s in range(40) if ConstantSparsity(0.5, 5, frequency=10)(s)[0]] == [5, 15, 25, 35]
    assert [s for s in range(40) if ConstantSparsity(0.5, 5, 22, frequency=10)(s)[0]] == [5, 15, 22]


def test_geometric_rounds_keep_the_same_share_each() -> None:
    schedule = Geometric(0.875, rounds=3, round_steps=10, begin_step=2)
    fired = [(s, schedule(s)[1]) for s in range(60) if schedule(s)[0]]
    assert [s for s, _ in fired] == [2, 12, 22]
    np.testing.assert_allclose([x for _, x in fired], [0.5, 0.75, 0.875])


@pytest.mark.parametrize(
    "schedule",
    [
        ConstantSparsity(0.5, 0, 10, 3),
        PolynomialDecay(0, 0.5, 0, 10, 2, 5),
        OneShot(0.5),
        Geometric(0.5, 2, 10),
    ],
)
def test_the_config_builds_the_same_schedule(schedule) -> None:
    config = schedule.get_config()
    assert config["class_name"] == type(schedule).__name__
    assert type(schedule).from_config(config["config"]) == schedule


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ConstantSparsity(80, 0),
            r"must be in range \[0,1\). Received 80. Did you mean 0.8",
        ),
        (lambda: ConstantSparsity(1.0, 0), r"target_sparsity must be in range \[0,1\)"),
        (lambda: ConstantSparsity("0.5", 0), r"Received '0.5'"),
        (lambda: ConstantSparsity(0.5, -1), "begin_step should be >= 0"),
        (lambda: ConstantSparsity(0.5, 0, -2), "end_step can be -1 or >= 0"),
        (lambda: ConstantSparsity(0.5, 0, frequency=0), "frequency should be > 0"),
        (lambda: ConstantSparsity(0.5, 0.5), "begin_step: expected a whole number. Received 0.5"),
        (lambda: PolynomialDecay(0, 0.5, 0, -1), "end_step cannot be -1"),
        (lambda: PolynomialDecay(0, 0.5, 10, 5), "begin_step should be <= end_step"),
        (lambda: PolynomialDecay(0, 1.5, 0, 5), "final_sparsity must be in range"),
        (lambda: Geometric(0.5, 0, 5), "rounds should be a whole number >= 1"),
        (lambda: OneShot(True), "Received True"),
    ],
)
def test_wrong_arguments_are_refused(make, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantSparsity(0.5, "a"), "begin_step: expected a whole number. Received 'a'"),
        (lambda: ConstantSparsity(0.5, float("nan")), "begin_step: expected a whole number"),
        (lambda: PolynomialDecay(0, 0.5, 0, 9, power="x"), "power: expected a positive number"),
        (lambda: PolynomialDecay(0, 0.5, 0, 9, power=0), "power: expected a positive number"),
        (lambda: Geometric(0.5, "a", 3), "rounds should be a whole number >= 1. Received 'a'"),
    ],
)
def test_what_is_no_number_is_refused(make, message) -> None:
    with pytest.raises(OptionError, match=message):
        make()


@pytest.mark.parametrize(
    "schedule",
    [
        ConstantSparsity(0.5, 3, 20, frequency=4),
        ConstantSparsity(0.5, 3, frequency=4),
        PolynomialDecay(0.1, 0.8, 3, 20, frequency=4),
        PolynomialDecay(0.1, 0.8, 5, 5),
    ],
)
def test_scripts_may_call_numpy_on_what_a_schedule_returns_and_pass_tensors(schedule) -> None:
    in_a_graph = tf.function(schedule.__call__, jit_compile=True)
    for step in range(25):
        expected = tuple(schedule(step))
        due, sparsity = schedule(step)
        assert (due.numpy(), sparsity.numpy()) == (bool(due), np.float32(sparsity))
        assert repr((due, sparsity)) == repr((bool(due), float(sparsity)))
        assert schedule(tf.Variable(step)) == schedule(tf.constant(step)) == expected
        due, sparsity = in_a_graph(tf.constant(step, tf.int64))
        assert bool(due) == expected[0]
        np.testing.assert_allclose(sparsity, expected[1], rtol=1e-6)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            assert session.run(schedule(tf.constant(step)))[0] == expected[0]
