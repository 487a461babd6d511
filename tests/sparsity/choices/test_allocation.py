import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.errors import FilterError, OptionError
from tfprune.sparsity.choices.allocation import ALLOCATIONS, Share, by_path, resolve_allocation
from tfprune.sparsity.choices.selection import keep_count


def shares_of(*sizes: int, seed: int = 0) -> list[Share]:
    rng = np.random.default_rng(seed)
    return [Share(f"layer{i}/kernel", (n,), rng.random(n)) for i, n in enumerate(sizes)]


sizes = st.lists(st.integers(1, 60), min_size=1, max_size=5)
sparsities = st.floats(0, 0.99)


@given(sizes, sparsities)
def test_global_keeps_the_total_unless_layers_would_be_cut_through(sizes, sparsity) -> None:
    shares = shares_of(*sizes)
    counts = ALLOCATIONS["global"](shares, sparsity, 1.0)
    assert sum(counts) == max(keep_count(sum(sizes), sparsity), len(sizes))
    kept = np.concatenate(
        [np.sort(s.units)[::-1][1:c] for s, c in zip(shares, counts, strict=True)]
    )
    lost = np.concatenate([np.sort(s.units)[::-1][c:] for s, c in zip(shares, counts, strict=True)])
    assert not kept.size or not lost.size or kept.min() >= lost.max()


@given(sizes, sparsities)
def test_erk_keeps_the_total_up_to_rounding(sizes, sparsity) -> None:
    counts = ALLOCATIONS["erk"](shares_of(*sizes), sparsity, 1.0)
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
    assert abs(sum(counts) - (1 - sparsity) * sum(sizes)) <= 1.5 * len(sizes)


def test_a_table_names_layers_by_path_or_regex_and_rises_with_the_schedule() -> None:
    shares = shares_of(10, 10, 10)
    table = by_path({"layer0/kernel": 0.8, "layer[12]": 0.4})
    assert table(shares, 0.0, 1.0) == [2, 6, 6]
    assert table(shares, 0.0, 0.5) == [6, 8, 8]
    assert by_path({"layer1": 0.5})(shares, 0.0, 1.0) == [10, 5, 10]


def test_a_table_entry_that_matches_nothing_is_refused() -> None:
    with pytest.raises(FilterError, match=r"'layer7/kernel'\] matches no kernel.*Did you mean"):
        by_path({"layer7/kernel": 0.5})(shares_of(4), 0.5, 1.0)
    with pytest.raises(OptionError, match="Did you mean 0.5"):
        by_path({"layer0": 50})
    with pytest.raises(OptionError, match="not a regular expression"):
        by_path({"layer(": 0.5})


def test_names_and_callables() -> None:
    assert resolve_allocation("uniform") is ALLOCATIONS["uniform"]
    assert resolve_allocation(lambda shares, sparsity, progress: [1])([], 0.5, 1.0) == [1]
    with pytest.raises(OptionError, match="Did you mean global"):
        resolve_allocation("globl")
    with pytest.raises(OptionError, match="expected a name, a table"):
        resolve_allocation(3)
