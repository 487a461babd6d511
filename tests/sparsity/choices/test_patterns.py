import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tfprune.errors import OptionError
from tfprune.sparsity.choices.patterns import Block, KeepOf, Unstructured, resolve_pattern

views = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 7)),
    elements=st.floats(0, 9, width=16),
)  # fmt: skip


def test_two_of_four_keeps_the_larger_two_of_each_column() -> None:
    scores = np.array([[1, 8], [2, 7], [3, 6], [4, 5], [9, 1], [1, 1]], float)[None]
    assert KeepOf(2, 4).mask(scores, 0)[0].astype(int).tolist() == [
        [0, 1], [0, 1], [1, 0], [1, 0], [1, 1], [1, 1],
    ]  # fmt: skip


@given(views, st.integers(1, 3), st.integers(1, 4))
def test_n_of_m_holds_in_every_group(scores: np.ndarray, keep: int, more: int) -> None:
    of = keep + more
    mask = KeepOf(keep, of).mask(scores, 0)
    for start in range(0, scores.shape[1], of):
        group = mask[:, start : start + of]
        assert (group.sum(1) == min(keep, group.shape[1])).all()


def test_blocks_are_scored_by_mean_or_maximum() -> None:
    scores = np.array([[5, 0, 2, 2], [0, 0, 2, 2]], float)[None]
    assert Block(2, 2, "AVG").mask(scores, 1)[0].astype(int).tolist() == [[0, 0, 1, 1]] * 2
    assert Block(2, 2, "MAX").mask(scores, 1)[0].astype(int).tolist() == [[1, 1, 0, 0]] * 2


@given(views, st.integers(1, 5), st.integers(1, 5), st.data())
def test_blocks_are_whole(scores: np.ndarray, height: int, width: int, data) -> None:
    pattern = Block(height, width)
    units = pattern.pool(scores)
    count = data.draw(st.integers(0, units.size))
    mask = pattern.mask(scores, count).reshape(-1, scores.shape[2])
    blocks = [
        mask[i : i + height, j : j + width]
        for i in range(0, mask.shape[0], height)
        for j in range(0, mask.shape[1], width)
    ]
    assert sum(block.all() for block in blocks) == count
    assert sum(not block.any() for block in blocks) == len(blocks) - count


@given(views, st.data())
def test_unstructured_keeps_the_count(scores: np.ndarray, data) -> None:
    count = data.draw(st.integers(0, scores.size))
    mask = Unstructured().mask(scores, count)
    assert mask.sum() == count
    if 0 < count < scores.size:
        assert scores[mask].min() >= scores[~mask].max()


@pytest.mark.parametrize(
    ("text", "pattern"),
    [("unstructured", Unstructured()), ("2:4", KeepOf(2, 4)), ("1 : 8", KeepOf(1, 8)),
     ("block(4,1)", Block(4, 1)), ("block( 16, 2 )", Block(16, 2))],
)  # fmt: skip
def test_patterns_are_found_by_name(text: str, pattern) -> None:
    assert resolve_pattern(text) == pattern


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blok", "Did you mean block"),
        ("block", r"needs sizes: write 'block\(4,1\)'"),
        ("block(4", r"expected the form 'block\(4,1\)'"),
        ("block(4,1,2,3)", "pattern 'block"),
        ("block(0,1)", "block height: expected a whole number >= 1"),
        ("4:2", "expected 0 < n < m"),
        (3, "expected a name or a Pattern"),
    ],
)
def test_wrong_names_are_refused(text, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        resolve_pattern(text)
