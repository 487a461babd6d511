"""The inputs of a layer as rows of matrices, so that every layer is `rows @ kernel`.

A layer is one matrix product, or several independent ones: the groups of a grouped convolution, or
the positions of an EinsumDense with separate weights for each. So rows have three axes:
(products, rows, inputs).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray


def dense_rows(inputs: NDArray, limit: int, rng: np.random.Generator) -> NDArray:
    """Return the rows that a Dense layer multiplies, drawn if there are more than `limit`.

    Example:
        >>> dense_rows(np.arange(6.0).reshape(1, 3, 2), 9, np.random.default_rng(0)).tolist()
        [[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]]
    """
    rows = inputs.reshape(-1, inputs.shape[-1])
    return rows[_draw(len(rows), limit, rng)][None]


def conv_rows(
    inputs: NDArray,
    window: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int],
    padding: str,
    groups: int,
    limit: int,
    rng: np.random.Generator,
) -> NDArray:
    """Return the patches that a convolution of any rank multiplies, as rows.

    Args:
        inputs: (samples, *space, channels).
        window: The kernel's size along each spatial axis.
        strides: Step between two patches.
        dilation: Step within a patch.
        padding: `"valid"`, `"same"` or `"causal"`.
        groups: The number of groups of channels.
        limit: The most patches to return; if there are more, they are drawn before copying.
        rng: Draws the patches.

    Returns:
        (groups, patches, window positions × channels of a group).

    Example:
        >>> x = np.arange(4.0).reshape(1, 4, 1)
        >>> conv_rows(x, [2], [1], [1], "valid", 1, 9, np.random.default_rng(0)).tolist()
        [[[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]]
    """
    rank = len(window)
    space = inputs.shape[1:-1]
    reach = [d * (w - 1) + 1 for w, d in zip(window, dilation, strict=True)]
    pads = [_pad(size, r, s, padding) for size, r, s in zip(space, reach, strides, strict=True)]
    padded = np.pad(inputs, [(0, 0), *pads, (0, 0)])
    # Views only: (samples, *positions, channels, *window). Rows are drawn before copying.
    axes = tuple(range(1, rank + 1))
    views = sliding_window_view(padded, reach, axes)
    views = views[
        (slice(None), *(slice(None, None, s) for s in strides), slice(None))
        + tuple(slice(None, None, d) for d in dilation)
    ]
    places = views.shape[: rank + 1]
    drawn = np.unravel_index(_draw(math.prod(places), limit, rng), places)
    patches = np.moveaxis(views[drawn], 1, -1)
    count, channels = len(patches), inputs.shape[-1]
    split = patches.reshape(count, math.prod(window), groups, channels // groups)
    return split.transpose(2, 0, 1, 3).reshape(groups, count, -1)


def _pad(size: int, reach: int, stride: int, padding: str) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    if padding == "causal":
        return reach - 1, 0
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def einsum_rows(
    inputs: NDArray, letters: str, outer: str, contracted: str, limit: int, rng: np.random.Generator
) -> NDArray:
    """Return the rows that an EinsumDense multiplies.

    Args:
        inputs: An array whose axes are named by `letters`.
        letters: One letter per axis.
        outer: The axes with a separate product for each position.
        contracted: The axes that are summed over, in the kernel's order.
        limit: The most rows to return; if there are more, they are drawn.
        rng: Draws the rows.

    Example:
        >>> x = np.arange(8.0).reshape(1, 2, 4)
        >>> einsum_rows(x, "abc", "b", "c", 9, np.random.default_rng(0)).shape
        (2, 1, 4)
    """
    rest = [letter for letter in letters if letter not in outer + contracted]
    order = [letters.index(letter) for letter in (*outer, *rest, *contracted)]
    moved = inputs.transpose(order)
    sizes = dict(zip(letters, inputs.shape, strict=True))
    products = math.prod(sizes[letter] for letter in outer)
    width = math.prod(sizes[letter] for letter in contracted)
    rows = moved.reshape(products, -1, width)
    return rows[:, _draw(rows.shape[1], limit, rng)]


def _draw(size: int, limit: int, rng: np.random.Generator) -> NDArray[np.intp]:
    if size <= limit:
        return np.arange(size)
    return np.sort(rng.choice(size, limit, replace=False))
