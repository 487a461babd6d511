"""Data sets of a run: arrays, checked before any work is done.

The test set is used for the final report only; calibration and validation use the rest.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.errors import DataError, type_name
from tfprune.recipe.sources import is_file, is_function
from tfprune.recipe.tables import DataTable
from tfprune.recipe.user_code import import_function
from tfprune.storage.archives import ArchiveFault, open_archive
from tfprune.utils.extras import require


@dataclass(frozen=True)
class Split:
    """Examples and their labels: `x[i]` has class `y[i]`."""

    x: NDArray
    y: NDArray

    def __len__(self) -> int:
        return len(self.x)

    def first(self, count: int | None) -> "Split":
        """Return the first `count` examples; None: all."""
        return Split(self.x[:count], self.y[:count])


@dataclass(frozen=True)
class Dataset:
    """The train, validation and test sets of a run."""

    train: Split
    validation: Split | None
    test: Split
    name: str = "data"

    @property
    def splits(self) -> dict[str, Split]:
        """Return the splits, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def classes(self) -> int:
        """Return the number of classes: the largest label plus one."""
        return 1 + max(int(split.y.max()) for split in self.splits.values())

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one example."""
        return self.train.x.shape[1:]

    def first(self, count: int | None) -> "Dataset":
        """Return a data set with the first `count` examples of each split."""
        validation = self.validation.first(count) if self.validation else None
        return Dataset(self.train.first(count), validation, self.test.first(count), self.name)

    def sha256(self) -> str:
        """Return a hash of all examples and labels."""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            for array in (split.x, split.y):
                digest.update(f"{name} {array.shape} {array.dtype}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_data(table: DataTable) -> Dataset:
    """Load and check the data that a recipe names.

    Raises:
        DataError: One line, if anything is missing, empty, not finite, or of a wrong shape.
    """
    name = f"[data] {table.source}"
    if is_file(table.source):
        raw: Any = read_npz(table.source, name)
    elif is_function(table.source):
        raw = import_function(table.source)()
    elif table.source == "digits":
        raw = _digits(table.seed)
    else:
        raw = _keras_dataset(table.source.removeprefix("keras.datasets."))
    return as_dataset(
        raw, name=name, validation=table.validation, seed=table.seed, scale=table.scale
    ).first(table.limit)


def as_dataset(
    data: Any, *, name: str = "data", validation: float = 0.1, seed: int = 0, scale: float = 1.0
) -> Dataset:
    """Convert a user's data to a checked `Dataset`.

    Args:
        data: `((x, y), (x_test, y_test))`, or with a validation pair in the middle, or a mapping
            with the keys x_train, y_train, x_test, y_test and optionally x_validation,
            y_validation. A pair may be a `tf.data.Dataset` of pairs, which is read into memory:
            with a single label per element it has single examples, otherwise batches.
        name: Its name in errors.
        validation: Fraction of the training pair used for validation, if no pair is given for it.
        seed: Seed of that split.
        scale: Factor for all examples.

    Raises:
        DataError: One line, if anything is missing, empty, not finite, or of a wrong shape.
    """
    if isinstance(data, Dataset):
        return data
    parts = [_pair(part, name) for part in _parts(data, name)]
    titles = ("train", "test") if len(parts) == 2 else ("train", "validation", "test")
    splits = {
        title: _checked(x, y, f"{name}: the {title} set", scale)
        for title, (x, y) in zip(titles, parts, strict=True)
    }
    for title, split in splits.items():
        if split.x.shape[1:] != splits["train"].x.shape[1:]:
            raise DataError(
                f"{name}: the {title} set has examples of shape {split.x.shape[1:]}, the train "
                f"set of shape {splits['train'].x.shape[1:]}. Give both the same shape."
            )
    if "validation" not in splits and validation > 0:
        splits["validation"], splits["train"] = _cut(splits["train"], validation, seed, name)
    return Dataset(splits["train"], splits.get("validation"), splits["test"], name)


def check_for_model(
    data: Dataset, shape: tuple[int | None, ...], dtype: str, classes: int, model: str
) -> None:
    """Raise unless data fits a model with this input shape and number of classes."""
    fits = len(shape) == len(data.input_shape) and all(
        wanted is None or wanted == found
        for wanted, found in zip(shape, data.input_shape, strict=True)
    )
    if not fits:
        raise DataError(
            f"{data.name}: examples have shape {data.input_shape}, {model} takes {shape}. "
            "Reshape or resize the data, or choose another model."
        )
    given = data.train.x.dtype.name
    if ("float" in dtype) != ("float" in given):
        raise DataError(
            f"{data.name}: examples are {given}, {model} takes {dtype}. "
            "Convert them, or set data.scale to convert integers to floats."
        )
    for title, split in data.splits.items():
        if split.y.max() >= classes:
            where = int(np.argmax(split.y >= classes))
            raise DataError(
                f"{data.name}: the {title} set has label {split.y[where]} at example {where}, "
                f"{model} has {classes} outputs, for labels 0 to {classes - 1}. "
                "Correct the labels, or give the model more outputs."
            )


def _parts(data: Any, name: str) -> list[Any]:
    if isinstance(data, Mapping):
        needed = ["x_train", "y_train", "x_test", "y_test"]
        missing = [key for key in needed if key not in data]
        if missing:
            raise DataError(
                f"{name}: no array {', '.join(missing)}. Found: {', '.join(map(str, data))}. "
                f"Needed: {', '.join(needed)}; x_validation, y_validation are optional."
            )
        middle = ["x_validation", "y_validation"]
        given = [key for key in middle if key in data]
        if len(given) == 1:
            raise DataError(f"{name}: {given[0]} alone. Give both of {', '.join(middle)}, or none.")
        keys = needed[:2] + given + needed[2:]
        return [(data[x], data[y]) for x, y in zip(keys[::2], keys[1::2], strict=True)]
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        if all(hasattr(part, "dtype") for part in data):
            raise DataError(f"{name}: one pair (x, y); give ((x, y), (x_test, y_test)).")
        return list(data)
    raise DataError(
        f"{name}: expected (train, test) or (train, validation, test), each a pair (x, y) or a "
        f"tf.data.Dataset, or a mapping with x_train, y_train, x_test, y_test. "
        f"Received {type_name(data)}."
    )


def _pair(part: Any, name: str) -> tuple[Any, Any]:
    if hasattr(part, "as_numpy_iterator"):
        elements = list(part.as_numpy_iterator())
        if not elements:
            raise DataError(f"{name}: a tf.data.Dataset has no elements. Give at least one.")
        if not isinstance(elements[0], tuple) or len(elements[0]) != 2:
            raise DataError(f"{name}: a tf.data.Dataset must have pairs (x, y).")
        join = np.stack if np.ndim(elements[0][1]) == 0 else np.concatenate
        return join([x for x, _ in elements]), join([y for _, y in elements])
    if isinstance(part, tuple | list) and len(part) == 2:
        return part[0], part[1]
    raise DataError(
        f"{name}: expected a pair (x, y) or a tf.data.Dataset of pairs. Received {type_name(part)}."
    )


def _checked(x: Any, y: Any, name: str, scale: float) -> Split:
    x, y = np.asarray(x), np.asarray(y)
    for what, array in (("examples", x), ("labels", y)):
        if array.dtype == object or array.dtype.kind not in "fiub":
            raise DataError(
                f"{name}: {what} of type {array.dtype}; expected numbers, in arrays of one shape."
            )
    if x.ndim == 0 or y.ndim == 0 or len(x) == 0:
        raise DataError(f"{name} is empty: {x.shape} and {y.shape}. Give at least one example.")
    if len(x) != len(y):
        raise DataError(f"{name}: {len(x)} examples but {len(y)} labels. Give as many of each.")
    for what, array in (("examples", x), ("labels", y)):
        _check_finite(array, f"{name}: {what}")
    # Bytes and 16-bit integers are images and sounds; wider integers may be tokens, and stay.
    if scale != 1 or x.dtype == np.float64 or x.dtype.itemsize < 4:
        x = x.astype(np.float32) * np.float32(scale)
    return Split(x, _class_numbers(y, name))


def _check_finite(array: NDArray, name: str) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if bad.any():
        first = int(np.argmax(bad))
        kind = "NaN" if np.isnan(array[first]).any() else "infinity"
        raise DataError(
            f"{name} hold {kind}, {int(bad.sum())} of {len(array)} are not finite, the first is "
            f"number {first}. Drop or fill them."
        )


def _class_numbers(y: NDArray, name: str) -> NDArray[np.int32]:
    y = y.reshape(len(y), -1)
    if y.shape[1] > 1:
        if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
            raise DataError(
                f"{name}: labels of shape {y.shape} are not one-hot. Give one class number each."
            )
        return np.argmax(y, axis=1).astype(np.int32)
    y = y[:, 0]
    wrong = (y < 0) | (y != np.floor(y))
    if wrong.any():
        first = int(np.argmax(wrong))
        raise DataError(
            f"{name} has label {y[first]} at example {first}. Class numbers are 0, 1, 2 …"
        )
    return y.astype(np.int32)


def _cut(split: Split, fraction: float, seed: int, name: str) -> tuple[Split, Split]:
    count = max(round(fraction * len(split)), 1)
    if count >= len(split):
        raise DataError(
            f"{name}: {len(split)} training examples are too few for a validation fraction of "
            f"{fraction:g}. Give more, or set data.validation = 0."
        )
    order = np.random.default_rng(seed).permutation(len(split))
    aside, rest = order[:count], order[count:]
    return Split(split.x[aside], split.y[aside]), Split(split.x[rest], split.y[rest])


def read_npz(path: str, name: str) -> dict[str, NDArray]:
    """Return the arrays of an `.npz`.

    Raises:
        DataError: It is missing or damaged; the message begins with `name`.
    """
    try:
        with open_archive(path) as archive:
            return {key: archive.read(key) for key in archive.names}
    except FileNotFoundError:
        raise DataError(f"{name}: no such file.") from None
    except ArchiveFault as fault:
        raise DataError(f"{name}: not a valid .npz of plain arrays: {fault}") from None


TEST_FRACTION = 0.25
"""Fraction of the digits for testing: 449 of 1797."""


def _digits(seed: int) -> tuple[tuple[NDArray, NDArray], tuple[NDArray, NDArray]]:
    require("[data] digits", "demo", "sklearn")
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images = (x / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    order = np.random.default_rng(seed).permutation(len(images))
    test, rest = np.split(order, [round(TEST_FRACTION * len(images))])
    return (images[rest], y[rest]), (images[test], y[test])


def _keras_dataset(name: str) -> list[tuple[NDArray, NDArray]]:
    import keras

    try:
        pairs = getattr(keras.datasets, name).load_data()
    except Exception as error:
        # Keras raises a bare Exception if a download fails; only its text identifies it.
        if type(error) is Exception and str(error).startswith("URL fetch failure"):
            raise DataError(
                f"[data] {name}: {error}. Go online once, or give an .npz with x_train, y_train, "
                "x_test, y_test."
            ) from None
        raise
    return [(_images(x), y) for x, y in pairs]


def _images(x: NDArray) -> NDArray[np.float32]:
    images = x.astype(np.float32) / np.float32(255)
    return images if images.ndim == 4 else images[..., None]
