"""The data of a training, as `fit` takes them: arrays whole, streams in batches."""

import re
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfprune.data.feed import Feed, packed
from tfprune.data.model_inputs import known_inputs
from tfprune.data.samples import Split
from tfprune.data.streams import Stream
from tfprune.errors import DataError, TfpruneError
from tfprune.keras_support.trainer_internals import batches_of_arrays
from tfprune.pipeline.datasets import Dataset, Set, check_batch
from tfprune.pipeline.models import output_shapes

OTHER_LENGTH = re.compile(r"was expected to contain \d+ elements but contained [a-z ]*\d+")
"""What TensorFlow says of a dataset with another length than the one counted before."""

ClassWeights = Mapping[int, float] | None


class Feeding:
    """The data of one model's training.

    Args:
        model: The model.
        data: Its data.
        size: Examples per step; streams of batches keep their own.
        seed: Shuffles memory-mapped arrays.
    """

    def __init__(self, model: keras.Model, data: Dataset, size: int, seed: int) -> None:
        self._model, self._data, self._size = model, data, size
        self._shuffle_seed = seed
        self._takes, self._outputs = known_inputs(model), output_shapes(model, data)
        self._failed: list[TfpruneError] = []

    def train(self, epochs_done: int, weights: ClassWeights) -> dict[str, Any]:
        """Return the arguments of `fit` for the training set, from an epoch on."""
        given = self._given(self._data.train, self._shuffle_seed, epochs_done)
        whole = isinstance(given, tuple)
        arguments: dict[str, Any] = {"x": given}
        if whole:
            arguments = dict(zip(("x", "y", "sample_weight"), given, strict=False))
            arguments["batch_size"] = self._size
        if weights is not None:
            arguments["class_weight"] = weights
        return {**arguments, "shuffle": whole}

    def repeated(self, steps: int, epochs_done: int, weights: ClassWeights) -> dict[str, Any]:
        """Return the arguments of `fit` for epochs of a number of steps, from an epoch on."""
        given = self._given(self._data.train, self._shuffle_seed, 0)
        if isinstance(given, tuple):
            batches, left = batches_of_arrays(given, self._size, weights), {}
        else:
            batches, left = given, {} if weights is None else {"class_weight": weights}
        batches = batches.repeat().skip(epochs_done * steps)
        return {"x": batches, "steps_per_epoch": steps, "shuffle": False, **left}

    def validation(self) -> dict[str, Any]:
        """Return the arguments of `fit` for the validation set."""
        if self._data.validation is None:
            return {}
        given = self._given(self._data.validation, None, 0)
        size = self._size if isinstance(given, tuple) else None
        return {"validation_data": given, "validation_batch_size": size}

    def fit(self, **arguments: Any) -> None:
        """Call `fit`.

        Raises:
            DataError: A batch does not fit the model, or there are not as many as before.
        """
        try:
            self._model.fit(**arguments)
        except tf.errors.OpError as error:
            if self._failed:
                raise self._failed[0] from None
            if other := OTHER_LENGTH.search(str(error)):
                raise DataError(
                    f"{self._data.name}: a dataset {other[0]}; every pass must give as many batches"
                ) from None
            raise

    def _given(self, split: Set, order: int | None, epoch: int) -> Any:
        split = self._data.targets(split)
        if isinstance(split, Stream):
            feed = Feed(split, self._takes, self._size, self._check, order, self._failed, epoch)
            return feed.dataset()
        return Split(packed(split.x, self._takes, self._data.name), split.y, split.w).given

    def _check(self, batch: Split, name: str) -> None:
        model = f"the model {self._model.name!r}"
        check_batch(self._data, batch, self._takes, self._outputs, name, model)
