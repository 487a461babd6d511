"""The contract of every score, pattern and allocation; new ones are tested automatically."""

import numpy as np
import pytest

from tfprune.errors import OptionError
from tfprune.sparsity.choices.allocation import ALLOCATIONS, Share
from tfprune.sparsity.choices.patterns import PATTERNS, WholeUnits, of_one_kernel
from tfprune.sparsity.choices.scores import SCORES, Evidence, score_weights

SHAPES = [(1, 8, 5), (3, 6, 4), (1, 1, 1)]
SIZES = {"block": (2, 2), "n:m": (2, 4)}
FOUND = {name: PATTERNS[name](*SIZES.get(name, ())) for name in PATTERNS}
OF_ONE_KERNEL = [name for name in FOUND if not isinstance(FOUND[name], WholeUnits)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", SCORES)
def test_a_score_returns_one_number_for_each_weight_and_changes_none(name: str, shape) -> None:
    rng = np.random.default_rng(0)
    weights, gradient, movement = rng.standard_normal((3, *shape)).astype(np.float32)
    before = weights.copy()
    results = [
        score_weights(SCORES[name], weights,
                      Evidence(gradient, movement, np.random.default_rng(1)))
        for _ in range(2)
    ]  # fmt: skip
    assert results[0].shape == shape
    assert np.isfinite(results[0]).all()
    np.testing.assert_array_equal(*results)
    np.testing.assert_array_equal(weights, before)
    if SCORES[name].settled:
        assert (score_weights(SCORES[name], 0 * weights, Evidence()) <= results[0].min()).all()


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"random"}))
def test_what_matters_more_by_all_evidence_scores_higher(name: str) -> None:
    """High means keep. `random` is the control, and knows nothing."""
    weights = np.linspace(0.1, 1, 24, dtype=np.float32).reshape(1, 6, 4)
    found = score_weights(SCORES[name], weights, Evidence(weights, weights))
    assert (np.diff(found.ravel()) > 0).all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OF_ONE_KERNEL)
def test_a_pattern_gives_a_mask_of_whole_units(name: str, shape) -> None:
    pattern = of_one_kernel(FOUND[name], "contract")
    scores = np.random.default_rng(0).random(shape)
    units = pattern.pool(scores)
    count = max(units.size // 2, 1)
    mask = pattern.mask(scores, count)
    assert mask.shape == shape
    assert mask.dtype == bool
    assert mask.any()
    if pattern.fixed is None:
        assert pattern.mask(scores, units.size).all()
        assert not pattern.mask(scores, 0).any()
        assert pattern.spread(np.ones(units.shape, bool), shape).all()
    else:
        assert 0 < pattern.fixed < 1


@pytest.mark.parametrize("name", sorted(FOUND.keys() - set(OF_ONE_KERNEL)))
def test_a_pattern_over_several_kernels_is_refused_where_one_is_meant(name: str) -> None:
    with pytest.raises(OptionError, match=f"contract: pattern '{name}' closes units over several"):
        of_one_kernel(name, "contract")


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.97])
@pytest.mark.parametrize("name", ALLOCATIONS)
def test_an_allocation_leaves_every_kernel_something(name: str, sparsity: float) -> None:
    rng = np.random.default_rng(0)
    shares = [Share(str(i), shape, rng.random(shape)) for i, shape in
              enumerate([(40, 30), (3, 3, 8, 8), (5,)])]  # fmt: skip
    counts = ALLOCATIONS[name](shares, sparsity, 1.0)
    sizes = [share.units.size for share in shares]
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
    assert all(isinstance(count, int) for count in counts)
    if sparsity == 0.0:
        assert counts == sizes
