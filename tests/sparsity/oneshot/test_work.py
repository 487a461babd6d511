from typing import Any

import keras
import numpy as np
import pytest

from tfprune.sparsity.choices import allocation as allocations
from tfprune.sparsity.choices.patterns import Unstructured
from tfprune.sparsity.choices.schedules import OneShot
from tfprune.sparsity.choices.scores import SCORES
from tfprune.sparsity.masks import Choices
from tfprune.sparsity.oneshot import work
from tfprune.sparsity.oneshot.plan import KernelJob, make_plan
from tfprune.sparsity.oneshot.work import Bench, prune_layer

L = keras.layers
X = np.random.default_rng(0).standard_normal((60, 6)).astype("float32")


def jobs_of(model: Any, batch: Any, sparsity: float = 0.5) -> list[KernelJob]:
    choices = Choices(SCORES["magnitude"], Unstructured(), allocations.uniform, OneShot(sparsity))
    return make_plan(model, batch, choices, sparsity)[0]


def two_layers() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu"), L.Dense(3)])
    model.layers[-1].bias.assign([1.0, -2.0, 3.0])
    return model


def test_the_original_weights_are_restored_inside_the_block_only() -> None:
    model = two_layers()
    bench = Bench(model, [X], seed=0)
    kernel = model.layers[0].kernel
    came = kernel.numpy()
    bench.assign(kernel, came * 2)
    bench.assign(kernel, came * 3)
    assert len(bench.changed) == 1
    seen = []

    def look_and_fail() -> None:
        with bench.original_weights():
            seen.append(kernel.numpy())
            raise KeyError

    with pytest.raises(KeyError):
        look_and_fail()
    assert np.array_equal(seen[0], came)
    assert np.array_equal(kernel.numpy(), came * 3)
    bench.restore()
    assert np.array_equal(kernel.numpy(), came)


@pytest.mark.parametrize("method", ["reconstruct", "wanda"])
def test_the_reported_error_is_that_of_the_layer_outputs(method: str) -> None:
    model = two_layers()
    wanted = model.predict(X, verbose=0) - model.layers[-1].bias.numpy()
    jobs = jobs_of(model, X)
    bench = Bench(model, np.array_split(X, 4), seed=0)
    reports = [prune_layer(job, bench, method, 0.01)[1] for job in jobs]
    # The bias that was there before is no part of the products; its shift is.
    now = model.predict(X, verbose=0) - [1.0, -2.0, 3.0]
    error = np.sum((now - wanted) ** 2) / np.sum(wanted**2)
    assert np.isclose(reports[-1].error, error, rtol=1e-3)
    assert reports[-1].bias_moved == (method == "reconstruct")


def test_a_later_layer_compensates_for_an_earlier_one() -> None:
    model = two_layers()
    wanted = model.predict(X, verbose=0)
    first, last = jobs_of(model, X)
    bench = Bench(model, [X], seed=0)
    prune_layer(first, bench, "reconstruct", 0.01)
    between = np.mean((model.predict(X, verbose=0) - wanted) ** 2)
    everything = KernelJob(
        last.kernel, last.weights, last.pattern, last.size, last.linear, last.calls
    )
    prune_layer(everything, bench, "reconstruct", 1e-4)
    assert np.mean((model.predict(X, verbose=0) - wanted) ** 2) < 0.7 * between


def test_the_choice_of_wanda_matches_a_calculation_by_hand() -> None:
    model = keras.Sequential([keras.Input((2,)), L.Dense(2, use_bias=False)])
    model.layers[0].kernel.assign([[1.0, 0.2], [0.5, 3.0]])
    samples = np.array([[0.1, 1.0], [0.1, -1.0]], "float32")
    (job,) = jobs_of(model, samples)
    mask, report = prune_layer(job, Bench(model, [samples], 0), "wanda", 0.01)
    assert mask.tolist() == [[False, False], [True, True]]
    assert np.allclose(model.layers[0].kernel.numpy(), [[0, 0], [0.5, 3]])
    assert not report.bias_moved


def test_a_layer_of_too_many_inputs_is_scored_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    model = two_layers()
    monkeypatch.setattr(work, "MAX_INPUTS", 5)
    job = jobs_of(model, X)[0]
    came = job.weights
    mask, report = prune_layer(job, Bench(model, [X], 0), "reconstruct", 0.01)
    assert (report.method, report.error) == ("wanda", None)
    assert report.reason == "6 inputs, more than 5: too many to reconstruct"
    assert np.array_equal(model.layers[0].kernel.numpy(), np.where(mask, came, 0).astype("float32"))
    scores = np.abs(came) * np.sqrt(np.mean(X**2, axis=0))[:, None]
    assert scores[mask].min() >= scores[~mask].max()


def test_rows_are_limited_over_all_batches_and_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "MAX_ROWS", 40)
    shared = L.Conv2D(3, 3, padding="same")
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, shared(shared(x)))
    images = np.random.default_rng(0).standard_normal((6, 8, 8, 3)).astype("float32")
    (job,) = jobs_of(model, images[:1])
    bench = Bench(model, [images[:4], images[4:]], seed=0)
    counts = [[rows.shape[1] for rows in bench.rows(job, index)] for index in (0, 1)]
    assert counts == [[13, 13], [6, 6]]
    assert np.array_equal(bench.rows(job, 0)[1], bench.rows(job, 0)[1])
