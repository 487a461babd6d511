"""Arrays through a file and back."""

import numpy as np

from tfprune.workers.arrays import load_arrays, save_arrays


def test_any_names_and_their_order_are_kept(tmp_path):
    arrays = {
        "file": np.arange(3),
        "a/b c": np.ones((2, 2), np.float16),
        "": np.array([True]),
        "allow_pickle": np.zeros(0, np.int8),
    }
    save_arrays(tmp_path / "x.npz", arrays)
    back = load_arrays(tmp_path / "x.npz")
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
