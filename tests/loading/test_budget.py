"""A model that declares more than its file holds is refused before the memory is taken."""

import contextlib
import threading
from typing import Any

import keras
import pytest
import tf_keras

from tfprune.loading import budget
from tfprune.loading.budget import BudgetError, check_config_counts, limited_variables


def build(api: Any, units: int) -> Any:
    return api.Sequential([api.layers.Input((4,)), api.layers.Dense(units, use_bias=False)])


@pytest.fixture
def one_megabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "FREE_BYTES", 1 << 20)


@pytest.mark.parametrize("api", [keras, tf_keras])
def test_declared_variables_are_counted_before_they_are_created(api: Any) -> None:
    shape = r"one of shape \(4, 300000000\).* 100 bytes of weights"
    with pytest.raises(BudgetError, match=shape), limited_variables(100):
        build(api, 300_000_000)
    with limited_variables(100):
        assert build(api, 1000).count_params() == 4000


@pytest.mark.usefixtures("one_megabyte")
@pytest.mark.parametrize("api", [keras, tf_keras])
def test_the_sizes_of_many_variables_are_added(api: Any) -> None:
    m = api.layers
    with pytest.raises(BudgetError, match="declares weights of"), limited_variables(0):
        api.Sequential([m.Input((1000,)), *(m.Dense(1000) for _ in range(2))])


@pytest.mark.usefixtures("one_megabyte")
def test_an_error_that_keras_catches_is_raised_at_the_end() -> None:
    def swallow() -> None:
        with contextlib.suppress(BudgetError):
            build(keras, 300_000_000)

    with pytest.raises(BudgetError), limited_variables(0):
        swallow()


@pytest.mark.usefixtures("one_megabyte")
def test_other_threads_have_no_limit() -> None:
    made: list[int] = []
    with limited_variables(0):
        thread = threading.Thread(target=lambda: made.append(build(keras, 1 << 20).count_params()))
        thread.start()
        thread.join()
    assert made == [4 << 20]


@pytest.mark.usefixtures("one_megabyte")
def test_a_model_within_its_limit_is_loaded_and_trained() -> None:
    units = 1 << 18
    with limited_variables(4 * 4 * units):
        model = build(keras, units)
        model.compile("adam")
        model.optimizer.build(model.trainable_variables)
    with pytest.raises(BudgetError), limited_variables(0):
        build(keras, units)


def test_numbers_that_python_loops_over_are_limited() -> None:
    check_config_counts(
        [{"size": [2, 2], "num_thresholds": 200, "batch_shape": [None, 160_000, 1]}]
    )
    for options, message in (
        ({"size": 100_000_000}, "size = 100,000,000; at most 4,096 is allowed"),
        ({"size": {"class_name": "__tuple__", "items": [2, 5000]}}, "size = 5,000"),
        ({"num_thresholds": 300_000_000}, "num_thresholds = 300,000,000"),
        ({"unroll": True, "batch_shape": [None, 160_000, 1]}, "batch_shape = 160,000"),
    ):
        with pytest.raises(BudgetError, match=message):
            check_config_counts({"layers": [{"config": options}]})
    up = {"class_name": "UpSampling1D", "config": {"size": 100}}
    check_config_counts([up, up])
    with pytest.raises(BudgetError, match="upsamples to 100,000,000 slices; at most 1,048,576"):
        check_config_counts([up] * 4)
    with pytest.raises(BudgetError, match="upsamples to 40,000,000,000 slices"):
        check_config_counts([{"batch_shape": [None, 400_000_000, 1]}, up])
