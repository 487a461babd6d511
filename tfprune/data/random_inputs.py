"""Random numbers for the inputs of models and files."""

from collections.abc import Sequence

import numpy as np


def random_input(
    random: np.random.Generator,
    shape: tuple[int, ...],
    dtype: str,
    *,
    whole: tuple[int, int] = (0, 2),
    indices: bool = False,
) -> np.ndarray:
    """Return random numbers for one input: normal for floats, integers for all other types.

    Integers are in range(*whole), as text for "string"; with `indices`, floats are integers too.
    "bfloat16", which NumPy does not have, becomes float32.

    Example:
        >>> random_input(np.random.default_rng(0), (2, 3), "int32", whole=(5, 9))
        array([[8, 7, 7],
               [6, 6, 5]], dtype=int32)
    """
    made = np.dtype({"string": "str", "bfloat16": "float32"}.get(dtype, dtype))
    if made.kind == "f" and not indices:
        return random.standard_normal(shape).astype(made)
    return random.integers(*whole, shape).astype(made)


def full_shape(shape: Sequence[int | None], samples: int, open_size: int) -> tuple[int, ...]:
    """Return a shape with `samples` for an open batch, and `open_size` for other open sizes.

    Example:
        >>> full_shape((None, 3, -1), 2, 8)
        (2, 3, 8)
    """
    sizes = (samples, *(open_size for _ in shape[1:]))
    return tuple(
        size if given is None or given == -1 else int(given)
        for given, size in zip(shape, sizes, strict=True)
    )
