"""The kernel of an EinsumDense, by its equation."""

import keras
import numpy as np
import pytest

from tfprune.utils.einsum import is_matrix_product, is_product, letters_of, summed_axes

EQUATIONS = ["ab,bc->ac", "abc,cde->abde", "abcd,cde->abe", "...x,xy->...y", "abc,acd->abd",
             "abc,cd->abcd", "abc, dc -> abd"]  # fmt: skip


@pytest.mark.parametrize("equation", EQUATIONS)
def test_an_equation_of_a_matrix_product_equals_matmul(equation: str) -> None:
    if not is_matrix_product(equation):
        assert equation in ("abc,acd->abd", "abc,cd->abcd", "abc, dc -> abd")
        return
    assert is_product(equation)
    letters = letters_of(equation)
    rng = np.random.default_rng(0)
    sizes = {letter: size for size, letter in enumerate(sorted(set(letters.kernel)), start=2)}
    kernel = rng.standard_normal([sizes[letter] for letter in letters.kernel])
    free = len(letters.inputs.replace("...", "")) - len(summed_axes(equation))
    shape = [3] * (free + letters.inputs.count("...") * 2)
    summed = [sizes[letters.kernel[axis]] for axis in summed_axes(equation)]
    x = rng.standard_normal([*shape, *summed])
    whole = x.reshape(-1, int(np.prod(summed))) @ kernel.reshape(int(np.prod(summed)), -1)
    new = kernel.shape[len(summed) :]
    expected = keras.ops.convert_to_numpy(keras.ops.einsum(equation, x, kernel))
    np.testing.assert_allclose(whole.reshape(*shape, *new), expected, rtol=1e-12)


def test_a_kernel_with_an_axis_that_is_neither_summed_nor_new_is_not_a_product() -> None:
    assert [is_product(equation) for equation in EQUATIONS] == [
        True, True, True, True, False, False, True]  # fmt: skip
