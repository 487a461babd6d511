"""Training is reproducible, reports progress, and does what the keys of a recipe say."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tfprune.errors import DataError, OptionError, TrainingError
from tfprune.pipeline.datasets import Dataset, as_dataset
from tfprune.pipeline.losses import gives_probabilities
from tfprune.pipeline.training import class_weights, compile_model, fit, label_weights
from tfprune.recipe.fitting import Fitting
from tfprune.sparsity.pruning import prune
from tfprune.task.task import Task


class Steps:
    """A task that counts."""

    def __init__(self) -> None:
        self.done = 0.0

    def advance(self, steps: float = 1) -> None:
        self.done += steps


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    return as_dataset(((x, y), (x, y)), validation=0.2)


def model(activation: str | None = None) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.2)]
    return keras.Sequential([*layers, keras.layers.Dense(2, activation)])


@contextmanager
def compiled(data: Dataset, rate: float = 0.05) -> Iterator[keras.Model]:
    made = model()
    compile_model(made, data, "adam", rate, 3 * 5)
    yield made


def test_probabilities_are_told_from_logits(data: Dataset) -> None:
    assert gives_probabilities(model("softmax"), data)
    assert not gives_probabilities(model(), data)
    assert not gives_probabilities(model("sigmoid"), data)


def test_the_loss_is_the_same_for_both(data: Dataset) -> None:
    losses = []
    for activation in (None, "softmax"):
        made = model(activation)
        compile_model(made, data, "sgd", 0.1, 10)
        losses.append(made.evaluate(data.train.x, data.train.y, verbose=0)[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_training_learns_counts_its_steps_and_repeats_bit_for_bit(data: Dataset) -> None:
    curves, weights, task = [], [], Steps()
    for _ in range(2):
        with compiled(data) as made:
            curves.append(fit(made, data, epochs=3, batch_size=10, task=task).curves)
            weights.append(made.get_weights())
    assert task.done == 2 * 3 * 5
    assert curves[0] == curves[1]
    assert set(curves[0]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert curves[0]["loss"][-1] < curves[0]["loss"][0]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_learning_rate_ends_at_zero(data: Dataset) -> None:
    with compiled(data) as made:
        fit(made, data, epochs=3, batch_size=10, task=Steps())
        assert float(made.optimizer.learning_rate) == pytest.approx(0.0, abs=1e-9)


def test_a_dataset_that_ends_in_a_later_epoch_is_one_line(data: Dataset) -> None:
    import tensorflow as tf

    left = [10, 10]

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        rows = data.train.rows(slice(left.pop() if training else None))
        yield from ((rows.x[at : at + 10], rows.y[at : at + 10]) for at in range(0, len(rows), 10))

    training = False
    kinds = (tf.TensorSpec((None, 4)), tf.TensorSpec((None,), tf.int32))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=kinds)
    streamed = as_dataset((dataset, data.test.given), validation=0)
    assert streamed.train.steps(10) == 5
    assert len(streamed.train.head) == 48
    training = True
    with compiled(streamed) as made, pytest.raises(
        DataError, match="^data: a dataset was expected to contain 5 elements but contained only 1;"
    ):  # fmt: skip
        fit(made, streamed, epochs=3, batch_size=10, task=Steps())


def test_training_that_fails_says_so(data: Dataset) -> None:
    made = model()
    compile_model(made, data, "sgd", 1e30, 15)
    with pytest.raises(TrainingError, match="training diverged. Lower learning_rate"):
        fit(made, data, epochs=3, batch_size=10, task=Steps())


def trained(data: Dataset, *, epochs: int = 3, rate: Any = 0.05, **keys: Any) -> Any:
    more = {key: keys.pop(key) for key in ("first_scored", "precision", "folder") if key in keys}
    with compiled(data, rate) as made:
        found = fit(made, data, epochs=epochs, batch_size=10, task=Steps(), options=Fitting(**keys),
                    **more)  # fmt: skip
    return made, found


def test_training_stops_when_the_metric_of_the_task_is_not_better(data: Dataset) -> None:
    still = {"name": "constant", "value": 1e-12}
    made, found = trained(data, epochs=6, rate=still, early_stopping={"patience": 2})
    curve = found.curves["val_score"]
    assert len(curve) == 3
    assert found.notes == ("training stopped after epoch 3 of 6, with the best weights kept",)
    outputs = made.predict(data.validation.x, verbose=0)
    assert curve[0] == pytest.approx(np.mean(outputs.argmax(-1) == data.validation.y))
    later = trained(data, epochs=6, rate=still, early_stopping={"patience": 2}, first_scored=2)[1]
    assert len(later.curves["loss"]) == 5


def test_early_stopping_needs_a_validation_set(data: Dataset) -> None:
    alone = as_dataset(((data.train.x, data.train.y),) * 2, validation=0)
    with pytest.raises(DataError, match=r"no validation set. Give data\.validation"):
        trained(alone, early_stopping={"patience": 1})


def test_classes_count_with_their_weights(data: Dataset) -> None:
    ones = int((data.train.y == 1).sum())
    balanced = class_weights("balanced", data)
    assert balanced == {0: 48 / (2 * (48 - ones)), 1: 48 / (2 * ones)}
    assert class_weights({"1": 3.0}, data) == {0: 1.0, 1: 3.0}
    plain, weighted = (trained(data, class_weight=given)[1] for given in (None, {"1": 5.0}))
    assert plain.curves["loss"] != weighted.curves["loss"]
    with pytest.raises(DataError, match="no class 2 in data, which has 2"):
        trained(data, class_weight={"2": 3.0})
    numbers = as_dataset(((data.train.x, data.train.x[:, :1]),) * 2)
    with pytest.raises(DataError, match="has labels of regression; expected one class for each"):
        class_weights("balanced", numbers)


def test_each_of_several_labels_counts_with_its_weight() -> None:
    x = np.eye(4, dtype=np.float32)
    y = np.array([[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0]])
    several = as_dataset(((x, y), (x, y)), validation=0, task=Task("multi_label"))
    assert class_weights("balanced", several) is None
    balanced = label_weights("balanced", several)
    # The third label is never 1: there is nothing to balance.
    np.testing.assert_allclose(balanced, [[2 / 3, 1, 0.5], [2, 1, 1]])
    assert label_weights({"1": 3.0}, several).tolist() == [[1, 1, 1], [1, 3, 1]]
    with pytest.raises(DataError, match="no class 3 in data, which has 3"):
        label_weights({"3": 2.0}, several)

    layers = [keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="ones")]
    model = keras.Sequential(layers)
    compile_model(model, several, "sgd", 0.1, 10, class_weight="balanced")
    found = model.evaluate(x, y, verbose=0)[0]
    each = np.log1p(np.exp(-np.where(y, 1, -1)))  # every logit is 1
    weights = np.where(y, balanced[1], balanced[0])
    assert found == pytest.approx(np.mean(each * weights), rel=1e-5)


USER_CODE = """
import keras
seen = []
class Count(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        seen.append(epoch)
ends = []
class End(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) in ends:
            raise KeyboardInterrupt
def number():
    return 3
def train(model, data, callbacks, epochs, batch_size):
    size = min(batch_size, len(data.train))
    model.fit(data.train.x, data.train.y, batch_size=size, epochs=epochs - 1,
              callbacks=callbacks, verbose=0)
def loop(model, data, callbacks, epochs, batch_size):
    several = keras.callbacks.CallbackList(callbacks, model=model, epochs=epochs)
    several.on_train_begin()
    for epoch in range(epochs):
        several.on_epoch_begin(epoch)
        for batch in range(5):
            several.on_train_batch_begin(batch)
            part = data.train.rows(slice(10 * batch, 10 * batch + 10))
            loss = model.train_on_batch(part.x, part.y)[0]
            several.on_train_batch_end(batch)
        several.on_epoch_end(epoch, {"loss": loss})
    several.on_train_end()
def nothing(model, data, callbacks, epochs, batch_size):
    pass
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"code_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(USER_CODE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_callbacks_of_the_users_own_are_called(data: Dataset, code: str) -> None:
    trained(data, callbacks=(f"{code}:Count",))
    assert __import__(code).seen == [0, 1, 2]
    with pytest.raises(OptionError, match="number returned int, not a Keras callback"):
        trained(data, callbacks=(f"{code}:number",))
    with pytest.raises(OptionError, match="has no function 'Cound'. Known: .*Did you mean Count"):
        trained(data, callbacks=(f"{code}:Cound",))


@pytest.mark.parametrize(("name", "epochs"), [("train", 2), ("loop", 3)])
def test_a_function_of_the_users_own_trains(
    data: Dataset, code: str, name: str, epochs: int, tmp_path: Path
) -> None:
    made, found = trained(data, fit=f"{code}:{name}", folder=tmp_path / "stored")
    assert len(found.curves["loss"]) == epochs
    assert int(made.optimizer.iterations) == 5 * epochs
    assert (tmp_path / "stored" / str(epochs)).is_dir()


def test_a_function_that_calls_no_callbacks_is_an_error(data: Dataset, code: str) -> None:
    with pytest.raises(TrainingError, match="nothing trained no epoch"):
        trained(data, fit=f"{code}:nothing")


def test_an_epoch_may_have_its_own_number_of_steps(data: Dataset, tmp_path: Path) -> None:
    made, found = trained(data, steps_per_epoch=7)
    assert int(made.optimizer.iterations) == 3 * 7
    trained(data, epochs=2, steps_per_epoch=7, folder=tmp_path)
    resumed, again = trained(data, steps_per_epoch=7, folder=tmp_path)
    assert again.curves == found.curves
    for one, other in zip(resumed.get_weights(), made.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "steps"), [("arrays", None), ("arrays", 7), ("memory-mapped", None)]
)
def test_a_training_goes_on_within_its_epoch(
    form: str, steps: int | None, data: Dataset, code: str, tmp_path: Path
) -> None:
    given = data
    if form == "memory-mapped":  # shuffled in another order in each epoch
        for name, array in (("x", data.train.x), ("y", data.train.y)):
            np.save(tmp_path / f"{name}.npy", array)
        mapped = tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")
        given = as_dataset((mapped, data.test.given), validation=0)
    keys = {"steps_per_epoch": steps, "callbacks": (f"{code}:End",)}
    expected, unbroken = trained(given, **keys)
    keys |= {"backup_steps": 2, "folder": tmp_path / "stored"}
    ends = __import__(code).ends
    for end in (8, 10):
        ends[:] = [end]
        with pytest.raises(KeyboardInterrupt):
            trained(given, **keys)
    ends.clear()
    resumed, found = trained(given, **keys)
    assert found.curves == unbroken.curves
    for one, other in zip(resumed.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_arithmetic_of_half_precision_leaves_a_plain_model(data: Dataset, precision: str) -> None:
    seen = []

    class See(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            seen.append(x.dtype.name)
            return x

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, "relu"), See(), keras.layers.Dense(2)]
    made = keras.Sequential([keras.Input((4,)), *layers])
    compile_model(made, data, "adam", 0.05, 15)
    prune(made, 0.5)
    optimizer = made.optimizer
    seen.clear()
    found = fit(made, data, epochs=3, batch_size=10, task=Steps(), precision=precision)
    assert set(seen) == {precision.removeprefix("mixed_")}
    assert found.curves["loss"][-1] < found.curves["loss"][0]
    assert made.optimizer is optimizer
    assert {layer.dtype_policy.name for layer in made.layers} == {"float32"}
    assert made(data.train.x[:2]).dtype.name == "float32"
    assert float(np.mean(np.array(made.layers[0].kernel) == 0)) == 0.5
