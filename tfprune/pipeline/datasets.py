"""Data sets of a run: arrays, checked before any work is done.

The test set is used for the final report only; calibration and validation use the rest.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.data.model_inputs import leaves, mapped
from tfprune.errors import DataError, type_name
from tfprune.recipe.builtin_data import builtin_data
from tfprune.recipe.sources import is_file, is_function
from tfprune.recipe.tables import DataTable
from tfprune.recipe.user_code import import_function
from tfprune.storage.archives import ArchiveFault, open_archive
from tfprune.task.guess import guess_task
from tfprune.task.labels import check_output, labels_for, width_of
from tfprune.task.task import Task

GUESSED = "guessed from the labels"
"""The origin of a task that nobody has named."""


@dataclass(frozen=True)
class Split:
    """Examples and their labels: `x[i]` has label `y[i]`; `y` is a dict for several outputs."""

    x: NDArray
    y: Any

    def __len__(self) -> int:
        return len(self.x)

    def first(self, count: int | None) -> "Split":
        """Return the first `count` examples; None: all."""
        return self.rows(slice(count))

    def rows(self, rows: Any) -> "Split":
        """Return some of the examples."""
        return Split(self.x[rows], mapped(lambda labels: labels[rows], self.y))


@dataclass(frozen=True)
class Dataset:
    """The train, validation and test sets of a run.

    `origin` says where the task comes from; `given` has the labels as they were given.
    """

    train: Split
    validation: Split | None
    test: Split
    name: str = "data"
    task: Task = field(default_factory=Task)
    origin: str = GUESSED
    given: "Dataset | None" = None

    @property
    def splits(self) -> dict[str, Split]:
        """Return the splits, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def classes(self) -> Any:
        """Return the number of outputs: the largest label plus one, or as many as labels.

        It is a dict for several outputs.
        """
        splits = self.splits.values()
        widths = [width_of(self.task, split.y, split.x) for split in splits]
        if isinstance(widths[0], dict):
            return {name: max(width[name] for width in widths) for name in widths[0]}
        return max(widths)

    def targets(self, split: Split) -> Any:
        """Return what the outputs are trained towards: the labels, or the examples."""
        return split.x if self.task.kind.from_inputs and not self.task.outputs else split.y

    def for_task(self, task: Task, origin: str) -> "Dataset":
        """Return this data with the labels as a task takes them.

        Raises:
            DataError: One line, if the labels are not of the task.
        """
        raw = self.given or self
        splits = {
            title: Split(
                split.x, labels_for(task, split.y, split.x, f"{self.name}: the {title} set")
            )
            for title, split in raw.splits.items()
        }
        validation = splits.get("validation")
        return Dataset(splits["train"], validation, splits["test"], self.name, task, origin, raw)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one example."""
        return self.train.x.shape[1:]

    def first(self, count: int | None) -> "Dataset":
        """Return a data set with the first `count` examples of each split."""
        validation = self.validation.first(count) if self.validation else None
        return replace(
            self,
            train=self.train.first(count),
            validation=validation,
            test=self.test.first(count),
            given=self.given.first(count) if self.given else None,
        )

    def sha256(self) -> str:
        """Return a hash of all examples and labels."""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            for array in (split.x, *leaves(split.y)):
                digest.update(f"{name} {array.shape} {array.dtype}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_data(table: DataTable, task: Task | None = None, origin: str = "") -> Dataset:
    """Load and check the data that a recipe names; see `as_dataset` for the task.

    Raises:
        DataError: One line, if anything is missing, empty, not finite, or of a wrong shape.
    """
    name = f"[data] {table.source}"
    if is_file(table.source):
        raw: Any = read_npz(table.source, name)
    elif is_function(table.source):
        raw = import_function(table.source)()
    else:
        raw = builtin_data(table.source.removeprefix("keras.datasets."), table.seed)
    return as_dataset(
        raw,
        name=name,
        validation=table.validation,
        seed=table.seed,
        scale=table.scale,
        task=task,
        origin=origin,
    ).first(table.limit)


def as_dataset(
    data: Any,
    *,
    name: str = "data",
    validation: float = 0.1,
    seed: int = 0,
    scale: float = 1.0,
    task: Task | None = None,
    origin: str = "",
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
        task: The task. None: the labels of the train set show it.
        origin: Where the task comes from, for the report.

    Raises:
        DataError: One line, if anything is missing, empty, not finite, or of a wrong shape.
    """
    if isinstance(data, Dataset):
        return data if task is None else data.for_task(task, origin)
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
    raw = Dataset(splits["train"], splits.get("validation"), splits["test"], name)
    if task is None:
        task, origin = guess_task(raw.train.y), GUESSED
    return raw.for_task(task, origin)


def check_for_model(
    data: Dataset, shape: tuple[int | None, ...], dtype: str, outputs: Any, model: str
) -> None:
    """Raise unless data fits a model with this input, and outputs.

    `outputs` is a number of classes, the shape of the output, or a dict of shapes.
    """
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
        name = f"{data.name}: the {title} set"
        shapes = (None, outputs) if isinstance(outputs, int) else outputs
        if isinstance(shapes, dict):
            for output, part in data.task.outputs.items():
                where = f"{model} for output {output!r}"
                check_output(part, split.y[output], shapes[output], name, where)
        else:
            check_output(data.task, data.targets(split), shapes, name, model)


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
        labels = [leaves(y) for _, y in elements]
        join = np.stack if np.ndim(labels[0][0]) == 0 else np.concatenate
        columns = iter([join(column) for column in zip(*labels, strict=True)])
        y = mapped(lambda _: next(columns), elements[0][1])
        return join([x for x, _ in elements]), y
    if isinstance(part, tuple | list) and len(part) == 2:
        return part[0], part[1]
    raise DataError(
        f"{name}: expected a pair (x, y) or a tf.data.Dataset of pairs. Received {type_name(part)}."
    )


def _checked(x: Any, y: Any, name: str, scale: float) -> Split:
    x, y = np.asarray(x), mapped(np.asarray, y) if isinstance(y, Mapping) else np.asarray(y)
    arrays = [("examples", x), *(("labels", labels) for labels in leaves(y))]
    for what, array in arrays:
        if array.dtype == object or array.dtype.kind not in "fiub":
            raise DataError(
                f"{name}: {what} of type {array.dtype}; expected numbers, in arrays of one shape."
            )
    for array in leaves(y):
        if x.ndim == 0 or array.ndim == 0 or len(x) == 0:
            shapes = f"{x.shape} and {array.shape}"
            raise DataError(f"{name} is empty: {shapes}. Give at least one example.")
        if len(x) != len(array):
            raise DataError(
                f"{name}: {len(x)} examples but {len(array)} labels. Give as many of each."
            )
    for what, array in arrays:
        _check_finite(array, f"{name}: {what}")
    # Bytes and 16-bit integers are images and sounds; wider integers may be tokens, and stay.
    if scale != 1 or x.dtype == np.float64 or x.dtype.itemsize < 4:
        x = x.astype(np.float32) * np.float32(scale)
    return Split(x, y)


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


def _cut(split: Split, fraction: float, seed: int, name: str) -> tuple[Split, Split]:
    count = max(round(fraction * len(split)), 1)
    if count >= len(split):
        raise DataError(
            f"{name}: {len(split)} training examples are too few for a validation fraction of "
            f"{fraction:g}. Give more, or set data.validation = 0."
        )
    order = np.random.default_rng(seed).permutation(len(split))
    aside, rest = order[:count], order[count:]
    return split.rows(aside), split.rows(rest)


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


def pairs_in(arrays: Mapping[str, NDArray], part: str) -> Iterator[tuple[NDArray, NDArray | None]]:
    """Yield the inputs and labels of an `.npz`: x and y, then those of a part, x_test and y_test.

    The labels are None where there are none.
    """
    for end in ("", f"_{part}"):
        if f"x{end}" in arrays:
            yield arrays[f"x{end}"], arrays.get(f"y{end}")
