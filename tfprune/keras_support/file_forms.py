"""Operations of Keras in a form that files can have, with the same result."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from tfprune.keras_support.internals import backend_numpy, fourier_transforms
from tfprune.keras_support.thread_replacements import replaced

Function = Callable[..., Any]


@contextlib.contextmanager
def file_forms() -> Iterator[None]:
    """Compute as files can while entered, in this thread."""
    with contextlib.ExitStack() as entered:
        for owner, name, make in _FORMS:
            entered.enter_context(replaced(owner, name, make))
        yield


def _exact_norm(plain: Function) -> Function:
    """Return `LayerNormalization.call` without the rounding errors of a variance of 0.

    A series of one feature is normalized to x · r − x · r with r = 1 / sqrt(epsilon), the root of
    a large number. In integers, the two products differ by more than the shift.
    """

    def call(layer: Any, inputs: Any) -> Any:
        axes = [layer.axis] if isinstance(layer.axis, int) else layer.axis
        if getattr(layer, "rms_scaling", False) or any(inputs.shape[axis] != 1 for axis in axes):
            return plain(layer, inputs)
        # Both weights are read, so that both have gradients.
        factor = 0.0 if layer.gamma is None else 0.0 * ops.convert_to_tensor(layer.gamma)
        shift = 0.0 if layer.beta is None else ops.convert_to_tensor(layer.beta)
        return ops.cast(inputs * factor + shift, layer.compute_dtype)

    return call


def _fourier(x: Any, axes: int) -> tuple[Any, Any]:
    """Return the Fourier transform over the last axes, from products with matrices.

    No file has complex numbers.
    """
    real, imaginary = x
    for axis in range(-1, -1 - axes, -1):
        real, imaginary = _along(axis, real, imaginary)
    return real, imaginary


def _along(axis: int, real: Any, imaginary: Any) -> tuple[Any, Any]:
    """Return the Fourier transform along one axis, real and imaginary part."""
    size = real.shape[axis]
    turns = np.outer(np.arange(size), np.arange(size)) % size * (2 * np.pi / size)
    cos, sin = (
        f(turns).astype(keras.backend.standardize_dtype(real.dtype)) for f in (np.cos, np.sin)
    )

    def product(part: Any, matrix: Any) -> Any:
        moved = ops.matmul(ops.moveaxis(part, axis, -1), matrix[(None,) * (len(part.shape) - 2)])
        return ops.moveaxis(moved, -1, axis)

    # The matrices are symmetric.
    return (
        product(real, cos) + product(imaginary, sin),
        product(imaginary, cos) - product(real, sin),
    )


def _zeros(plain: Function) -> Function:
    """Return `zeros_like` of float tensors as a product, of which files have an integer one."""

    def zeros(x: Any, dtype: Any = None) -> Any:
        wanted = keras.backend.standardize_dtype(dtype or x.dtype)
        if not wanted.startswith("float") or not ops.is_tensor(x):
            return plain(x, dtype)
        return ops.cast(x, wanted) * 0.0

    return zeros


_FORMS: tuple[tuple[Any, str, Callable[[Function], Function]], ...] = (
    (keras.layers.LayerNormalization, "call", _exact_norm),
    (backend_numpy, "zeros_like", _zeros),
    (fourier_transforms, "fft", lambda plain: partial(_fourier, axes=1)),
    (fourier_transforms, "fft2", lambda plain: partial(_fourier, axes=2)),
)
