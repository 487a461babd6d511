"""A training that is interrupted anywhere and resumed is that which was not, to the bit."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tfprune
from tfprune.clustering.cluster import cluster, strip_clustering
from tfprune.keras_support.trainer_internals import set_all_seeds
from tfprune.training.resuming import Resumable

EPOCHS, STEPS = 6, 4
RNG = np.random.default_rng(0)
X = RNG.normal(size=(STEPS * 10, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int32")


class Noise(keras.layers.Layer):
    """Draws without a seed of its own."""

    def call(self, x: Any, training: bool = False) -> Any:
        return x + 0.1 * keras.random.normal(keras.ops.shape(x)) if training else x


class Stop(keras.callbacks.Callback):
    """Interrupts at a step, counted from the beginning of this process, and counts epochs."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.left = object(), at  # not plain, so that it is not stored
        self.epochs: Any = iter(range(10**6))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        token, at = self.left
        if at is not None and at <= 1:
            raise KeyboardInterrupt
        self.left = token, None if at is None else at - 1

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        next(self.epochs)


class Double(keras.callbacks.Callback):
    """Adds to the curves, as those of a run do."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["doubled"] = 2 * logs["loss"]


class Draws(keras.callbacks.Callback):
    """Changes the rate by what NumPy and what it remembers say, as one of a user's own may."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.seen: list[float] = []
        self.sums = np.zeros(2)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(float(np.random.random()))
        self.sums += self.seen[-1]
        self.model.optimizer.learning_rate.assign(0.02 * float(self.sums[0]) / len(self.seen))


def begin(kind: str) -> keras.Model:
    set_all_seeds(0)
    layers = [Noise(), keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    ema = {"use_ema": True, "ema_momentum": 0.5} if kind == "average" else {}
    model.compile(keras.optimizers.Adam(0.02, **ema), loss, metrics=["accuracy"])
    schedule = tfprune.PolynomialDecay(0.0, 0.5, 2, 18, frequency=3)
    if kind == "cluster":
        cluster(model, 4)
    elif kind != "train":
        score = "movement" if kind == "movement" else "magnitude"
        pattern = "channel" if kind == "channel" else "unstructured"
        tfprune.prune(model, 0.5, schedule=schedule, score=score, pattern=pattern)
    return model


def callbacks_of(kind: str) -> list[keras.callbacks.Callback]:
    early = keras.callbacks.EarlyStopping("loss", patience=1, restore_best_weights=True)
    return {
        "train": [Draws()],
        "stopped": [early, tfprune.UpdatePruningStep()],
        "cluster": [],
    }.get(kind, [tfprune.UpdatePruningStep()])


def train(
    kind: str, folder: Path | None, at: int | None = None, steps: int | None = None
) -> tuple[Resumable, keras.Model]:
    model = begin(kind)
    resumable = Resumable([*callbacks_of(kind), Double(), Stop(at)], folder, steps)
    model.fit(X, Y, batch_size=10, epochs=EPOCHS, verbose=0, callbacks=[resumable])
    return resumable, model


def interrupted(
    kind: str, folder: Path, moments: Sequence[int], steps: int | None = None
) -> tuple[Resumable, keras.Model]:
    for at in moments:
        with pytest.raises(KeyboardInterrupt):
            train(kind, folder, at, steps)
    return train(kind, folder, steps=steps)


def everything(model: keras.Model) -> list[np.ndarray]:
    return [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]


@pytest.mark.filterwarnings("ignore:UpdatePruningStep")  # EarlyStopping restores weights
@pytest.mark.parametrize(
    ("kind", "steps"),
    [("magnitude", None), ("magnitude", 1)]
    + [
        pytest.param(kind, None, marks=pytest.mark.slow)
        for kind in ("train", "movement", "channel", "average", "cluster", "stopped")
    ]
    + [
        pytest.param(kind, steps, marks=pytest.mark.slow)
        for kind, steps in (("train", 3), ("movement", 1), ("cluster", 1), ("stopped", 3))
    ],
)
def test_an_interrupted_training_ends_as_an_unbroken_one(
    kind: str, steps: int | None, tmp_path: Path
) -> None:
    unbroken, expected = train(kind, None)
    # In the first epoch, in the middle of one, at the end of one.
    moments = [2, 4 + 2, 4] if kind != "stopped" else [5]
    resumed, found = interrupted(kind, tmp_path / "t", moments, steps)
    for one, other in zip(everything(found), everything(expected), strict=True):
        np.testing.assert_array_equal(one, other)
    assert resumed.curves == unbroken.curves
    assert set(resumed.curves) == {"loss", "accuracy", "doubled"}
    strip: Callable[[Any], Any] = strip_clustering if kind == "cluster" else tfprune.strip_pruning
    for one, other in zip(strip(found).get_weights(), strip(expected).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


class Steps(keras.callbacks.Callback):
    """Notes the steps that are done, and interrupts one of them before it is stored."""

    def __init__(self, at: int | None) -> None:
        super().__init__()
        self.noted: Any = object(), at, []  # not plain, so that it is not stored

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        _, at, done = self.noted
        done.append(int(self.model.optimizer.iterations))
        if len(done) == at:
            raise KeyboardInterrupt


def test_a_training_stored_by_steps_does_no_others_again(tmp_path: Path) -> None:
    done = []
    for at in (3, 4, 2, None):
        model, steps = begin("train"), Steps(at)
        try:
            model.fit(X, Y, batch_size=10, epochs=3, verbose=0,
                      callbacks=[Resumable([steps], tmp_path / "t", 2)])  # fmt: skip
        except KeyboardInterrupt:
            assert at is not None
        done.append(steps.noted[-1])
    # The second goes on after step 2, the others after the first epoch.
    assert done == [[1, 2, 3], [3, 4, 5, 6], [5, 6], list(range(5, 13))]


def test_no_epoch_is_done_more_than_twice(tmp_path: Path) -> None:
    begun = 0
    for at in (4 + 1, 4 + 2, 3, None):
        model, stop = begin("train"), Stop(at)
        try:
            model.fit(X, Y, batch_size=10, epochs=EPOCHS, verbose=0,
                      callbacks=[Resumable([stop], tmp_path / "t")])  # fmt: skip
        except KeyboardInterrupt:
            assert at is not None
        begun += next(stop.epochs)
    assert begun == EPOCHS + 3  # each interruption repeats one


def test_a_training_that_was_stored_at_its_end_does_no_epoch_again(tmp_path: Path) -> None:
    _, model = train("magnitude", tmp_path / "t")
    again, resumed = train("magnitude", tmp_path / "t", at=1)
    assert len(again.curves["loss"]) == EPOCHS
    np.testing.assert_array_equal(everything(resumed)[0], everything(model)[0])


@pytest.mark.slow
def test_a_second_fit_begins_at_its_first_epoch(tmp_path: Path) -> None:
    results = []
    for moments in ([], [4 * EPOCHS + 6]):
        folder = tmp_path / str(len(moments))
        for at in (*moments, None):
            model, stop = begin("train"), Stop(at)
            resumable = Resumable([stop], folder)
            try:
                for _ in range(2):
                    model.fit(X, Y, batch_size=10, epochs=EPOCHS, verbose=0, callbacks=[resumable])
            except KeyboardInterrupt:
                assert at is not None
        results.append((everything(model), resumable.curves))
    assert results[0][1] == results[1][1]
    assert len(results[0][1]["loss"]) == 2 * EPOCHS
    for one, other in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_array_equal(one, other)
