"""Data sets of a run, checked before any work is done: arrays, or batches that are read.

The test set is used for the final report only; calibration and validation use the rest.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfprune.data.data_forms import is_array
from tfprune.data.feed import in_order
from tfprune.data.model_inputs import ModelInputs, OneInput, fits, leaves, mapped
from tfprune.data.npz import read_npz
from tfprune.data.samples import Split, as_arrays, checked
from tfprune.data.streams import Convert, Mapped, Stream
from tfprune.errors import DataError, type_name
from tfprune.recipe.builtin_data import builtin_data
from tfprune.recipe.sources import is_file, is_function
from tfprune.recipe.tables import DataTable
from tfprune.recipe.user_code import import_function
from tfprune.task.guess import guess_task
from tfprune.task.labels import check_output, labels_for, width_of
from tfprune.task.task import Task

GUESSED = "guessed from the labels"
"""The origin of a task that nobody has named."""


SHORT = ("int8", "uint8", "int16", "uint16")
"""Integers that are images or sounds, which a run holds as floats until the model is known."""

Set = Split | Stream
"""The samples of one part of the data: arrays in memory, or batches that are read."""


@dataclass(frozen=True)
class Dataset:
    """The train, validation and test sets of a run.

    `origin` says where the task comes from; `given` has the labels as they were given; `notes` are
    for the report.
    """

    train: Set
    validation: Set | None
    test: Set
    name: str = "data"
    task: Task = field(default_factory=Task)
    origin: str = GUESSED
    given: "Dataset | None" = None
    notes: tuple[str, ...] = ()

    @property
    def splits(self) -> dict[str, Set]:
        """Return the splits, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    @property
    def classes(self) -> Any:
        """Return the number of outputs: the largest label plus one, or as many as labels.

        It is a dict for several outputs. Of a stream, the first samples are looked at, and the
        `class_names` that Keras gives a dataset of a folder.
        """
        heads = [split.head for split in self.splits.values()]
        widths = [width_of(self.task, head.y, head.x) for head in heads]
        if isinstance(widths[0], dict):
            return {name: max(width[name] for width in widths) for name in widths[0]}
        streams = [split.data for split in self.splits.values() if isinstance(split, Stream)]
        return max(*widths, *(len(getattr(data, "class_names", ())) for data in streams))

    def targets(self, split: Set) -> Set:
        """Return a set with what the outputs are trained towards: its labels, or its examples."""
        if not self.task.kind.from_inputs or self.task.outputs:
            return split
        return _converted(split, self.name, lambda part, name: Split(part.x, part.x, part.w))

    def for_task(self, task: Task, origin: str) -> "Dataset":
        """Return this data with the labels as a task takes them.

        Raises:
            DataError: One line, if the labels are not of the task.
        """
        raw = self.given or self

        def convert(part: Split, name: str) -> Split:
            return Split(part.x, labels_for(task, part.y, part.x, name), part.w)

        splits = {
            title: _converted(split, f"{self.name}: the {title} set", convert)
            for title, split in raw.splits.items()
        }
        validation = splits.get("validation")
        return replace(
            self,
            train=splits["train"],
            validation=validation,
            test=splits["test"],
            task=task,
            origin=origin,
            given=raw,
        )

    def with_inputs(self, takes: ModelInputs) -> "Dataset":
        """Return this data with examples as bytes, or other short integers, if a model takes them.

        Sets hold floats where those were given.

        Raises:
            DataError: An example is no such integer.
        """
        if not any(one.dtype in SHORT for one in takes.inputs):
            return self

        def convert(part: Split, name: str) -> Split:
            arrays = zip(in_order(part.x, takes, name), takes.inputs, strict=True)
            return Split(
                takes.packed([_as_integers(x, one, name) for x, one in arrays]), part.y, part.w
            )

        splits: dict[str, Any] = {
            title: _converted(split, f"{self.name}: the {title} set", convert)
            for title, split in self.splits.items()
        }
        return replace(self, **splits, given=self.given and self.given.with_inputs(takes))

    @property
    def input_shape(self) -> Any:
        """Return the shape of one example; a dict or list of shapes for several inputs."""
        x = self.train.head.x
        return mapped(lambda array: array.shape[1:], list(x) if isinstance(x, tuple) else x)

    def first(self, count: int | None) -> "Dataset":
        """Return a data set with the first `count` examples of each split."""
        if count is None:
            return self
        validation = self.validation.first(count) if self.validation else None
        return replace(
            self,
            train=self.train.first(count),
            validation=validation,
            test=self.test.first(count),
            given=self.given.first(count) if self.given else None,
        )

    def fingerprint(self) -> tuple[str, tuple[str, ...]]:
        """Return a hash that identifies the data, and notes on what was not read for it.

        It is of all samples of arrays; see `Stream.fingerprint` for others.
        """
        digest = hashlib.sha256()
        told = {name: split.fingerprint(digest, name) for name, split in self.splits.items()}
        notes = tuple(f"{name} set: {text}" for name, text in told.items() if text)
        return digest.hexdigest(), notes

    def test_fingerprint(self) -> str:
        """Return a hash that identifies the test set with its labels as they were given.

        It is the same after `with_inputs`.
        """
        digest = hashlib.sha256()
        test = _converted((self.given or self).test, self.name, _with_floats)
        test.fingerprint(digest, "test")
        return digest.hexdigest()


def _converted(split: Set, name: str, convert: Convert) -> Set:
    return split.converted(convert) if isinstance(split, Stream) else convert(split, name)


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
        data: `(train, test)` or `(train, validation, test)`, or a mapping with the keys x_train,
            y_train, x_test, y_test and optionally x_validation, y_validation, and w_train … for
            weights. A set is `(x, y)` or `(x, y, weights)`, with a dict or list of arrays for
            several inputs and a dict for several outputs; memory-mapped arrays are read in
            batches. Or it is a `tf.data.Dataset`, a `keras.utils.PyDataset`, or another iterable
            or function of these in the forms of `data_forms`, which is read again for every pass.
        name: Its name in errors.
        validation: Fraction of the training set used for validation, if none is given; only of
            arrays.
        seed: Seed of that split.
        scale: Factor for all examples.
        task: The task. None: the labels of the train set show it.
        origin: Where the task comes from, for the report.

    Raises:
        DataError: One line, if anything is missing, empty, not finite, or of a wrong shape.
    """
    if isinstance(data, Dataset):
        return data if task is None else data.for_task(task, origin)
    parts = _parts(data, name)
    titles = ("train", "test") if len(parts) == 2 else ("train", "validation", "test")
    splits = {
        title: _as_set(part, f"{name}: the {title} set", scale)
        for title, part in zip(titles, parts, strict=True)
    }
    _check_alike(splits, name)
    notes: tuple[str, ...] = ()
    train = splits["train"]
    if "validation" not in splits and validation > 0:
        if isinstance(train, Stream) and not isinstance(train.data, Mapped):
            notes = ("validation: none; give (train, validation, test), as a stream is not split",)
        else:
            splits["validation"], splits["train"] = _cut(train, validation, seed, name)
    raw = Dataset(splits["train"], splits.get("validation"), splits["test"], name, notes=notes)
    if task is None:
        task, origin = guess_task(raw.train.head.y), GUESSED
    return raw.for_task(task, origin)


def check_for_model(data: Dataset, takes: ModelInputs, outputs: Any, model: str) -> None:
    """Raise unless data fits a model with these inputs, and outputs.

    `outputs` is a number of classes, the shape of the output, or a dict of shapes. Of a stream,
    the first samples are checked; see `check_batch` for the others.
    """
    for title, split in data.splits.items():
        name = f"{data.name}: the {title} set"
        check_batch(data, data.targets(split).head, takes, outputs, name, model)


def check_batch(
    data: Dataset, batch: Split, takes: ModelInputs, outputs: Any, name: str, model: str
) -> None:
    """Raise unless some samples, whose labels are targets, fit a model; see `check_for_model`."""
    for array, one in zip(in_order(batch.x, takes, name), takes.inputs, strict=True):
        _check_input(array, one, name, model, several=len(takes.inputs) > 1)
    shapes = (None, outputs) if isinstance(outputs, int) else outputs
    if isinstance(shapes, dict):
        for output, part in data.task.outputs.items():
            where = f"{model} for output {output!r}"
            check_output(part, batch.y[output], shapes[output], name, where)
    else:
        check_output(data.task, batch.y, shapes, name, model)


def _check_input(array: NDArray, one: OneInput, name: str, model: str, *, several: bool) -> None:
    takes = f"{model} takes {{}}" + (f" for input {one.name!r}" if several else "")
    if not fits(array.shape[1:], one.shape[1:]):
        raise DataError(
            f"{name}: examples have shape {array.shape[1:]}, {takes.format(one.shape[1:])}. "
            "Reshape or resize the data, or choose another model."
        )
    if ("float" in one.dtype) != ("float" in array.dtype.name):
        raise DataError(
            f"{name}: examples are {array.dtype}, {takes.format(one.dtype)}. "
            "Convert them, or set data.scale to convert integers to floats."
        )


def _as_integers(array: NDArray, one: OneInput, name: str) -> NDArray:
    if one.dtype not in SHORT:
        return array
    made = array.astype(one.dtype)
    if (made != array).any():
        wrong = array[made != array][0]
        raise DataError(
            f"{name}: examples hold {wrong:g}; the model takes {one.dtype} for input {one.name!r}. "
            "Give them unscaled, without data.scale."
        )
    return made


def _with_floats(part: Split, _: str) -> Split:
    x = mapped(lambda one: one.astype(np.float32) if one.dtype in SHORT else one, part.x)
    return Split(x, part.y, part.w)


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
        titles = ["train", *(["validation"] if given else []), "test"]
        return [tuple(data[f"{key}_{title}"] for key in "xyw" if f"{key}_{title}" in data)
                for title in titles]  # fmt: skip
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        if all(hasattr(part, "dtype") for part in data):
            raise DataError(f"{name}: one pair (x, y); give ((x, y), (x_test, y_test)).")
        return list(data)
    raise DataError(
        f"{name}: expected (train, test) or (train, validation, test), each {SETS}; or a mapping "
        f"with x_train, y_train, x_test, y_test. Received {type_name(data)}."
    )


SETS = "(x, y), (x, y, weights), or a dataset or another iterable of these"


def _as_set(part: Any, name: str, scale: float) -> Set:
    if isinstance(part, Mapping) or is_array(part):
        raise DataError(f"{name}: expected {SETS}. Received {type_name(part)}.")

    def convert(batch: Split, name: str) -> Split:
        return checked(batch, name, scale)

    batches = isinstance(part, list) and all(isinstance(one, tuple) for one in part)
    if not isinstance(part, tuple | list) or batches:
        return Stream.of(part, name).converted(convert)
    if len(part) not in (2, 3):
        raise DataError(f"{name}: expected {SETS}. Received {len(part)} parts.")
    split = Split(*part)
    if any(isinstance(leaf, np.memmap) for leaf in leaves(split.three)):
        return Stream(Mapped.of(as_arrays(split, name)), name).converted(convert)
    return convert(split, name)


def _check_alike(splits: Mapping[str, Set], name: str) -> None:
    """Raise unless arrays have examples of one shape; those of streams may be open."""
    train = splits["train"]
    for title, split in splits.items():
        if isinstance(train, Stream) or isinstance(split, Stream):
            continue
        one, other = ([a.shape[1:] for a in leaves(part.x)] for part in (train, split))
        if one != other:
            raise DataError(
                f"{name}: the {title} set has examples of shape {_shown(other)}, the train set of "
                f"shape {_shown(one)}. Give both the same shape."
            )


def _shown(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


def _cut(split: Set, fraction: float, seed: int, name: str) -> tuple[Set, Set]:
    """Return a random fraction of a set, and the rest."""
    parts = len(split) if isinstance(split, Split) else len(split.data.starts)
    count = max(round(fraction * parts), 1)
    if count >= parts:
        raise DataError(
            f"{name}: {parts} training examples are too few for a validation fraction of "
            f"{fraction:g}. Give more, or set data.validation = 0."
        )
    order = np.random.default_rng(seed).permutation(parts)
    aside, rest = order[:count], order[count:]
    if isinstance(split, Split):
        return split.rows(aside), split.rows(rest)
    return split.with_chunks(np.sort(aside)), split.with_chunks(np.sort(rest))
