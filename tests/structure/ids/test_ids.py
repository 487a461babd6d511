"""Which ids are kept."""

import numpy as np

from tfprune.structure.ids.ids import Keep


def test_keep_counts_and_masks() -> None:
    keep = Keep(np.array([True, False, True]))
    assert keep.count(np.array([0, 1, 2, 2])) == 3
    assert keep.mask(np.array([1, 2])).tolist() == [False, True]
    assert keep.all(None)
    assert not keep.all(np.array([0, 1]))
