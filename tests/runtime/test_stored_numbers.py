"""How a file stores real numbers."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfprune.runtime.artifact import TensorSpec
from tfprune.runtime.stored_numbers import dequantize, quantize, value_range


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20),
    st.floats(1e-3, 10),
    st.integers(-128, 127),
)
def test_quantizing_errs_by_half_a_step_at_most(values, scale, zero_point):
    spec = TensorSpec("x", (-1,), "int8", scale, zero_point)
    array = np.array(values, np.float32)
    inside = quantize(array, spec)
    low, high = ((limit - zero_point) * scale for limit in (-128, 127))
    assert value_range(spec) == (low, high)
    back = dequantize(inside, spec)
    np.testing.assert_allclose(back, np.clip(array, low, high), atol=0.5001 * scale + 1e-3)
    np.testing.assert_array_equal(quantize(back, spec), inside)


def test_halves_are_rounded_away_from_zero():
    spec = TensorSpec("x", (-1,), "int8", 1.0, 0)
    halves = np.array([-1.5, -0.5, 0.5, 1.5, 200.0], np.float32)
    assert quantize(halves, spec).tolist() == [-2, -1, 1, 2, 127]
