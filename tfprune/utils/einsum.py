"""Axes of the kernel of an EinsumDense layer, read from its equation."""

import re
from typing import NamedTuple


class Letters(NamedTuple):
    """The letters of the axes of an input, a kernel and an output."""

    inputs: str
    kernel: str
    outputs: str


def letters_of(equation: str) -> Letters:
    """Return the letters of an equation of two operands.

    Example:
        >>> letters_of("abc, cd -> abd")
        Letters(inputs='abc', kernel='cd', outputs='abd')
    """
    return Letters(*re.split(",|->", equation.replace(" ", "")))


def summed_axes(equation: str) -> tuple[int, ...]:
    """Return the axes of the kernel that are summed over.

    Example:
        >>> summed_axes("abc,cde->abde"), summed_axes("abcd,cde->abe")
        ((0,), (0, 1))
    """
    _, kernel, outputs = letters_of(equation)
    return tuple(i for i, axis in enumerate(kernel) if axis not in outputs)


def kernel_axes(equation: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Return the axes of the kernel that input and output have, only the input, and no input.

    Example:
        >>> kernel_axes("abc,bcd->abd")
        ((0,), (1,), (2,))
    """
    inputs, kernel, outputs = letters_of(equation)
    read = [i for i, axis in enumerate(kernel) if axis in inputs]
    along = tuple(i for i in read if kernel[i] in outputs)
    new = tuple(i for i, axis in enumerate(kernel) if axis not in inputs)
    return along, tuple(i for i in read if i not in along), new


def is_product(equation: str) -> bool:
    """Return whether every axis of the kernel is either summed over or new.

    Example:
        >>> is_product("abc,cd->abd"), is_product("abc,cd->abcd")
        (True, False)
    """
    inputs, kernel, outputs = letters_of(equation)
    return all((axis in inputs) != (axis in outputs) for axis in kernel)


def is_matrix_product(equation: str) -> bool:
    """Return whether the axes are ordered as in a matrix product.

    Example:
        >>> is_matrix_product("abcd,cde->abe"), is_matrix_product("abc,acd->abd")
        (True, False)
    """
    inputs, kernel, outputs = letters_of(equation)
    summed = "".join(kernel[i] for i in summed_axes(equation))
    free, new = inputs.removesuffix(summed), kernel.removeprefix(summed)
    return inputs == free + summed and kernel == summed + new and outputs == free + new
