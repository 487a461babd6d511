"""How good files are: figures known beforehand, and faults in one line."""

import re

import keras
import numpy as np
import pytest

from tfprune.deploy.tflite import to_tflite
from tfprune.errors import DataError, OptionError
from tfprune.measure.fidelity import accuracy, guessed, score_files
from tfprune.task.task import Task

L = keras.layers


def test_accuracy_is_that_of_the_file(float_file, images, labels) -> None:
    assert accuracy(float_file, (images, labels)) == 108 / 120
    assert accuracy(float_file.bytes, (images, np.eye(10)[labels])) == 108 / 120
    assert accuracy(float_file, (images, labels[:, None]), batch_size=7) == 108 / 120


def test_only_the_file_is_run(convnet, images, labels, tmp_path) -> None:
    path = tmp_path / "model.tflite"
    to_tflite(convnet, path)
    head = convnet.get_layer("head").kernel
    before = head.numpy()
    head.assign(before * 0)
    try:
        assert accuracy(path, (images, labels)) == 108 / 120
    finally:
        head.assign(before)


def test_a_file_agrees_with_itself_and_nearly_with_its_int8_self(
    float_file, int8_file, images, labels
) -> None:
    same, near = score_files([float_file, int8_file], (images, labels), names=["a", "b"])
    assert (same.name, same.samples, same.agreement) == ("a", 120, 1.0)
    assert same.max_abs_error == same.mean_abs_error == 0.0
    assert 0.9 < near.agreement < 1.0 or near.agreement == 1.0
    assert 0.0 < near.mean_abs_error < near.max_abs_error < 0.1


def test_numbers_that_an_input_cannot_hold_are_reported(
    float_file, int8_file, images, labels
) -> None:
    """An int8 file clips them, with a wrong scale of the data nearly all."""
    dense, int8 = score_files([float_file, int8_file], (images * 255, labels), names=["a", "b"])
    assert dense.notes == ()
    (note,) = int8.notes
    assert re.match(r"b: 9\d% of the numbers for input 'image' are out of its range", note)
    for file in score_files([float_file, int8_file], (images, labels)):
        assert file.notes == ()
    (named,) = score_files([int8_file], ({"image": images * 255}, labels), batch_size=50)
    assert len(named.notes) == 1


@pytest.mark.parametrize("shape", [np.asarray, lambda truth: np.eye(10)[truth]])
def test_labels_of_one_class_are_reported(float_file, int8_file, images, labels, shape) -> None:
    only = labels == labels[0]
    found = score_files([float_file, int8_file], (images[only], shape(labels[only])))
    count, name = int(only.sum()), labels[0]
    told = f"all {count} labels are {name}: accuracy does not cover the other classes"
    assert [file.notes for file in found] == [(told,), ()]
    assert score_files([float_file], (images[:1], shape(labels[:1])))[0].notes == ()


def test_a_dataset_that_shuffles_compares_like_with_like(float_file, images, labels) -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(120).batch(50)
    one, two = score_files([float_file, float_file.bytes], dataset)
    assert one.score == two.score == 108 / 120
    assert two.max_abs_error == 0.0


def test_a_custom_metric_gets_all_samples(float_file, images, labels) -> None:
    def top2(truth, outputs):
        return np.mean([t in np.argsort(row)[-2:] for t, row in zip(truth, outputs, strict=True)])

    (found,) = score_files([float_file], (images, labels), metric=top2, batch_size=50)
    assert 108 / 120 <= found.score <= 1.0
    with pytest.raises(DataError, match="the metric returned nan"):
        score_files([float_file], (images, labels), metric=lambda truth, outputs: np.nan)


def test_outputs_that_are_nan_differ_infinitely_from_the_reference() -> None:
    """In Python, the largest of 0.0 and NaN is 0.0."""
    inputs = keras.Input((2,))
    exp = keras.ops.exp
    outputs = [exp(inputs), exp(inputs) - exp(inputs + 1)]
    files = [to_tflite(keras.Model(inputs, output)) for output in outputs]
    x = np.array([[200.0, 1.0]], "float32")  # both are infinite, and their difference is NaN
    one, two = score_files(files, (x, np.array([0])), metric=lambda truth, outputs: 0.0)
    assert (one.max_abs_error, two.max_abs_error) == (0.0, np.inf)


def test_a_regression_has_no_classes_to_agree_on() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), L.Dense(1)])
    x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    y = model.predict(x, verbose=0)
    file = to_tflite(model)
    (found,) = score_files(
        [file], (x, y), metric=lambda truth, outputs: -np.abs(truth - outputs).max()
    )
    assert found.agreement is None
    assert -1e-5 < found.score <= 0
    with pytest.raises(DataError, match="is not a probability"):
        accuracy(file, (x, (y > 0).astype(int)))


def test_the_output_is_chosen_by_name() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, {"kind": L.Dense(3, name="kind")(inputs),
                                 "color": L.Dense(2, name="color")(inputs)})  # fmt: skip
    x = np.random.default_rng(0).normal(size=(9, 4)).astype("float32")
    truth = {name: y.argmax(-1) for name, y in model.predict(x, verbose=0).items()}
    file = to_tflite(model)
    assert accuracy(file, (x, truth), output="color") == 1.0
    assert accuracy(file, (x, truth["kind"]), output="kind") == 1.0
    with pytest.raises(OptionError, match="choose one with output="):
        accuracy(file, (x, truth["kind"]))
    with pytest.raises(OptionError, match="Did you mean color?"):
        accuracy(file, (x, truth["kind"]), output="colour")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda y: np.where(np.arange(120) == 77, 10, y),
            "labels: 10 at sample 77 is out of range",
        ),
        (lambda y: np.where(np.arange(120) == 3, -1, y), "labels: -1 at sample 3 is out of range"),
        (lambda y: y + 0.5, "expected class numbers"),
        (lambda y: np.eye(11)[y], r"expected the shape \(50,\) or one-hot \(50, 10\)"),
        (lambda y: np.zeros((120, 10)), "sample 0 is not one-hot"),
        (lambda y: y.astype(str), "expected class numbers"),
    ],
)
def test_labels_that_are_not_classes_of_the_file_are_a_one_line_error(
    change, message, float_file, images, labels
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        accuracy(float_file, (images, change(labels)), batch_size=50)
    assert "\n" not in str(caught.value)


def test_images_of_another_size_are_refused(float_file, labels) -> None:
    with pytest.raises(DataError, match=r"\(None, 12, 12, 1\)"):
        accuracy(float_file, (np.zeros((120, 8, 8, 1), np.float32), labels))


def test_files_for_different_tasks_are_not_compared(float_file, images, labels) -> None:
    keras.utils.set_random_seed(0)
    other = keras.Sequential([keras.Input((12, 12, 1)), L.Flatten(), L.Dense(4)])
    with pytest.raises(DataError, match="only files for the same task"):
        score_files([float_file, to_tflite(other)], (images, labels % 4))


def test_an_unknown_metric_is_refused(float_file, images, labels) -> None:
    message = (
        r"metric: expected the name of a metric or a function .* Known: accuracy, .* mean f1\?"
    )
    with pytest.raises(OptionError, match=message):
        score_files([float_file], (images, labels), metric="f11")


def test_a_keras_metric_begins_anew_with_every_file(float_file, images, labels) -> None:
    metric = keras.metrics.SparseCategoricalAccuracy()
    other = keras.Sequential([keras.Input((12, 12, 1)), L.Flatten(), L.Dense(10)])
    files = [float_file, to_tflite(other), float_file.bytes]
    one, two, three = score_files(files, (images, labels), metric=metric)
    assert one.score == three.score == pytest.approx(0.9)
    assert two.score == pytest.approx(accuracy(files[1], (images, labels)))


@pytest.mark.parametrize(
    "metric",
    [keras.metrics.sparse_categorical_accuracy, lambda truth, outputs: "good", lambda *_: None],
)
def test_a_metric_that_returns_no_number_is_a_one_line_error(
    metric, float_file, images, labels
) -> None:
    with pytest.raises(DataError, match="the metric returned .*; it must return one number"):
        score_files([float_file], (images, labels), metric=metric)


def test_no_metric_is_refused(float_file, images, labels) -> None:
    with pytest.raises(OptionError, match="metric: expected .* Received None"):
        score_files([float_file], (images, labels), metric=None)


def test_decisions_are_compared_with_the_labels() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    scores = L.Dense(5)(inputs)
    model = keras.Model(inputs, {"class": keras.ops.argmax(scores, -1), "high": scores > 0})
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    truth = {name: np.asarray(value) for name, value in model(x).items()}
    file = to_tflite(model)
    wrong = truth["class"].copy()
    wrong[:5] = (wrong[:5] + 1) % 5
    assert accuracy(file, (x, truth["class"]), output="class") == 1.0
    assert accuracy(file, (x, wrong[:, None]), output="class") == 0.75
    assert accuracy(file, (x, truth["high"]), output="high") == 1.0
    (found,) = score_files([file], (x, wrong), output="class")
    assert found.agreement == 1.0
    with pytest.raises(DataError, match=r"has classes of shape \(20,\). Received \(20, 5\)"):
        accuracy(file, (x, truth["high"]), output="class")


def test_several_outputs_are_scored_together() -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, {"kind": L.Dense(3, name="kind")(inputs),
                                 "size": L.Dense(1, name="size")(inputs)})  # fmt: skip
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    found = model.predict(x, verbose=0)
    truth = {"kind": found["kind"].argmax(-1), "size": found["size"][:, 0] + 0.5}
    task = Task(outputs={"kind": "classification", "size": Task("regression", metrics=["mae"])})
    file = to_tflite(model)
    for chosen in (task, guessed):
        (one,) = score_files([file], (x, truth), task=chosen, batch_size=7)
        assert one.scores[:2] == pytest.approx((1.0, 0.5), rel=1e-4)
        assert one.agreement == 1.0
    (by_hand,) = score_files([file], (x, truth["kind"]), output="kind")
    assert by_hand.score == one.score == 1.0
    with pytest.raises(OptionError, match="has no output 'kid'.*Did you mean kind?"):
        score_files([file], (x, truth), task=Task(outputs={"kid": "regression"}))


def test_numbers_are_guessed_and_an_autoencoder_needs_no_labels() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), L.Dense(4)])
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    y = model.predict(x, verbose=0)
    file = to_tflite(model)
    (found,) = score_files([file], (x, y + 0.25), task=guessed)
    assert found.task.name == "regression"
    assert found.score == pytest.approx(0.25, rel=1e-4)
    (same,) = score_files([file], x, task=Task("autoencoder"))
    assert same.score == pytest.approx(np.mean((x - y) ** 2), rel=1e-4)
