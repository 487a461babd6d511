"""A whole run in one call."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tfprune.errors import (
    ArtifactError,
    DataError,
    FilterError,
    ModelError,
    OptionError,
    RecipeError,
)
from tfprune.pipeline import Result, check, compress, prepare
from tfprune.pipeline.datasets import Dataset
from tfprune.pipeline.folder import STATE
from tfprune.recipe import parse_recipe
from tfprune.report.data import Measure
from tfprune.runtime.litert import Runner
from tfprune.task.task import Task
from tfprune.utils.versions import version_of

FILES = {
    "baseline.keras", "baseline.tflite", "baseline.json", "pruned.keras", "model.keras",
    "model.tflite", "model.json", "measured.json", "report.json", "report.md", "report.html",
    "recipe.toml", "state.json", "run.log", ".lock",
}  # fmt: skip


@pytest.mark.slow
def test_a_run_leaves_its_files_and_nothing_else(finished: Result) -> None:
    assert finished.folder is not None
    assert {path.name for path in finished.folder.iterdir()} == FILES


def test_the_result_is_the_content_of_the_folder(finished: Result) -> None:
    assert finished.folder is not None
    assert finished.artifact.bytes == (finished.folder / "model.tflite").read_bytes()
    assert finished.artifact.report.scheme == "int8"
    assert finished.baseline.report.scheme == "float32"
    report = json.loads((finished.folder / "report.json").read_text())
    assert report == json.loads(finished.report.to_json())
    assert finished.passed
    assert str(finished) == f"{finished.report}\nEverything is in {finished.folder}"


def test_the_report_agrees_with_the_files(finished: Result, tiny_data: Dataset) -> None:
    for artifact, row in zip(
        (finished.baseline, finished.artifact), finished.report.rows, strict=True
    ):
        outputs = Runner(artifact)(tiny_data.test.x)
        assert row.score == pytest.approx(np.mean(outputs.argmax(-1) == tiny_data.test.y))
        assert row.raw_bytes == len(artifact.bytes)
        assert row.median_ms is not None
    assert [stage.name for stage in finished.report.stages] == [
        "train", "baseline", "prune", "quantize", "measure"
    ]  # fmt: skip
    curves = {(curve.stage, curve.name): curve.values for curve in finished.report.history}
    assert len(curves["train", "loss"]) == 4
    assert curves["prune", "sparsity"][-1] == 0.5
    assert "sparsity = 0.5" in finished.report.recipe


def test_the_model_is_plain_keras_with_exactly_the_zeros_asked_for(finished: Result) -> None:
    sizes = {"dense1": 6 * 16, "dense2": 16 * 8, "logits": 8 * 2}
    for name, size in sizes.items():
        layer = finished.model.get_layer(name)
        assert layer.kernel.constraint is None
        assert np.count_nonzero(layer.kernel) == size // 2


def test_the_tiny_model_has_learned(finished: Result) -> None:
    assert finished.report.rows[1].score > 0.8


def test_a_finished_run_is_returned_without_running_a_stage(
    finished: Result, tiny: dict[str, Any], tiny_data: Dataset
) -> None:
    assert finished.folder is not None
    before = {path.name: path.stat().st_mtime_ns for path in finished.folder.glob("*.*")}
    again = compress(None, tiny, tiny_data, out=finished.folder, resume=True)
    after = {path.name: path.stat().st_mtime_ns for path in finished.folder.glob("*.*")}
    assert {name for name in before if before[name] != after[name]} == {"run.log", ".lock"}
    assert again.report == finished.report


def given_model(units: int = 2) -> keras.Model:
    keras.utils.set_random_seed(0)
    hidden, last = keras.layers.Dense(8, "relu", name="a"), keras.layers.Dense(units, name="b")
    return keras.Sequential([keras.Input((6,), name="x"), hidden, last], name="given")


def test_a_model_that_is_given_stays_as_it_is_and_nothing_is_kept(tiny_data: Dataset) -> None:
    model = given_model()
    model.compile("sgd", "mse")
    optimizer, before = model.optimizer, model.get_weights()
    splits = [(split.x, split.y) for split in tiny_data.splits.values()]
    result = compress(model, {"measure": {"runs": 3}}, splits)
    for weight, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert model.optimizer is optimizer
    assert model.compiled
    assert result.folder is None
    assert result.artifact.path is None
    assert result.artifact.bytes == result.baseline.bytes
    assert [stage.name for stage in result.report.stages] == [
        "train", "baseline", "quantize", "measure"
    ]  # fmt: skip


def test_a_run_stores_the_versions_it_was_started_with(
    finished: Result, tiny: dict[str, Any], tiny_data: Dataset, tmp_path: Path, caplog
) -> None:
    state = json.loads((finished.folder / STATE).read_text())
    assert state["versions"] == {
        name: version_of(name) for name in ("tfprune", "tensorflow", "keras")
    }
    folder = shutil.copytree(finished.folder, tmp_path / "run")
    state["versions"]["keras"] = "3.0.0"
    del state["sha256"]
    (folder / STATE).write_text(json.dumps(state))
    assert compress(None, tiny, tiny_data, out=folder, resume=True).passed
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"started with keras 3.0.0, now {keras.__version__}" in said


def test_a_run_is_not_resumed_with_another_model(tiny_data: Dataset, tmp_path: Path) -> None:
    recipe = {"measure": {"runs": 3}}
    compress(given_model(), recipe, tiny_data, out=tmp_path / "run")
    compress(given_model(), recipe, tiny_data, out=tmp_path / "run", resume=True)
    with pytest.raises(
        DataError, match="the model of the run there differs from the one given now"
    ):
        compress(given_model(3), recipe, tiny_data, out=tmp_path / "run", resume=True)


def test_a_run_is_not_resumed_with_a_changed_model_file(tiny_data: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "given.keras"
    recipe = {"model": {"source": str(file)}, "measure": {"runs": 3}}
    given_model().save(file)
    compress(None, recipe, tiny_data, out=tmp_path / "run")
    given_model(3).save(file)
    with pytest.raises(
        DataError, match="the model of the run there differs from the one given now"
    ):
        compress(None, recipe, tiny_data, out=tmp_path / "run", resume=True)


def test_a_run_is_not_resumed_with_changed_code_of_a_model(
    tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = tmp_path / "my_model.py"
    code.write_text(
        "import keras\n"
        "def build():\n"
        "    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(2)])\n"
    )
    recipe = {"model": {"source": "my_model:build"}, "measure": {"runs": 3}}
    compress(None, recipe, tiny_data, out=tmp_path / "run")
    code.write_text(code.read_text() + "# changed\n")
    with pytest.raises(
        DataError, match="the model of the run there differs from the one given now"
    ):
        compress(None, recipe, tiny_data, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"prune": {"only": ["nowhere"]}}, FilterError, "nowhere"),
        ({"prune": {"skip": ["nowhere"]}}, FilterError, "nowhere"),
        ({"prune": {"allocation": {"nowhere": 0.5}}}, FilterError, "nowhere"),
        ({"model": {"source": "convnet"}}, ModelError, "convnet takes images"),
        ({"quantize": {"scheme": "int4", "layers": {"x": "int8"}}}, OptionError, "int8"),
        (
            {"quantize": {"scheme": "int4", "layers": {"x(": "float32"}}},
            FilterError,
            "not a regular",
        ),
        ({"prune": {"begin_step": 90, "end_epoch": 1.0}}, RecipeError, "begins at step 90"),
        ({"prune": {"optimizer": {"name": "sgd", "mass": 1}}}, OptionError, r"\[prune\] optimizer"),
        ({"prune": {"callbacks": ["os:nothing"]}}, OptionError, "os has no function 'nothing'"),
        ({"prune": {"class_weight": {"9": 2.0}}}, DataError, "no class 9"),
        ({"prune": {"fit": "nowhere:fit"}}, OptionError, "no module named 'nowhere'"),
    ],
)
def test_errors_are_raised_before_training(
    change: dict[str, Any],
    error: type[Exception],
    message: str,
    tiny: dict[str, Any],
    tiny_data: Dataset,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        compress(None, {**tiny, **change}, tiny_data, out=tmp_path / "run")
    log = tmp_path / "run" / "run.log"
    assert not log.exists() or "epoch" not in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("table", ["train", "prune"])
def test_one_class_cannot_be_learned(tiny_data: Dataset, tmp_path: Path, table: str) -> None:
    train, test = tiny_data.train, tiny_data.test
    data = (train.x, train.y * 0 + 1), (test.x, test.y)
    with pytest.raises(DataError, match="all labels of the train set are 1; a classifier needs"):
        compress(given_model(), {table: {}}, data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert compress(given_model(), {"measure": {"runs": 2}}, data).passed


def test_labels_out_of_range_of_the_model(tiny_data: Dataset) -> None:
    train, test = tiny_data.train, tiny_data.test
    data = (train.x, train.y + 1), (test.x, test.y + 1)
    with pytest.raises(
        DataError, match="has label 2 at example .* the model 'given' has 1 outputs"
    ):
        compress(given_model(1), {}, data)


def test_one_logit_is_a_classifier_of_two_classes(tiny_data: Dataset) -> None:
    recipe = {"train": {"epochs": 6, "learning_rate": 0.05}, "measure": {"runs": 2}}
    report = compress(given_model(1), recipe, tiny_data).report
    assert report.metric == "accuracy"
    assert report.baseline.score > 0.8


def test_the_task_of_a_compiled_model_is_taken_and_told(tiny_data: Dataset) -> None:
    """The labels look like class numbers; the loss says that they are numbers."""
    model = given_model(1)
    model.compile("sgd", "mse", metrics=["mae", keras.metrics.CosineSimilarity()])
    report = compress(model, {"measure": {"runs": 2}}, tiny_data).report
    assert report.measures == (Measure("MAE", higher_is_better=False, share=False),)
    assert "task: regression, of the compiled model" in report.notes
    assert any("cosine_similarity of the compiled model" in note for note in report.notes)
    told = compress(model, {"measure": {"runs": 2}}, tiny_data, task="classification").report
    assert told.metric == "accuracy"
    assert not any(note.startswith("task:") for note in told.notes)


def test_the_task_of_a_compiled_file_is_taken(tiny_data: Dataset, tmp_path: Path) -> None:
    model = given_model(1)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.5), "mae", metrics=["mse"])
    model.save(tmp_path / "m.keras")
    recipe = {
        "model": {"source": str(tmp_path / "m.keras")}, "measure": {"runs": 2},
        "train": {"epochs": 1}, "gate": {"max_drop": 2.5},
    }  # fmt: skip
    result = compress(None, recipe, tiny_data, out=tmp_path / "run")
    assert [measure.name for measure in result.report.measures] == ["MSE"]
    assert "task: regression, of the compiled model" in result.report.notes
    # The stored run is checked with that task, which labels alone do not show.
    assert check(tmp_path / "run", data=(tiny_data.test.x, tiny_data.test.y)).metric == "MSE"


def test_a_run_is_not_resumed_with_another_task(tiny_data: Dataset, tmp_path: Path) -> None:
    recipe = {"measure": {"runs": 2}}
    compress(given_model(), recipe, tiny_data, task="imbalanced_classification", out=tmp_path / "a")
    with pytest.raises(DataError, match="the task of the run there differs from the one given now"):
        compress(given_model(), recipe, tiny_data, out=tmp_path / "a", resume=True)


def test_a_metric_of_the_users_own_is_that_of_the_gates(tiny_data: Dataset) -> None:
    def off(labels: np.ndarray, outputs: np.ndarray) -> float:
        return float(np.abs(labels - outputs.argmax(1)).mean())

    task = Task("classification", metrics=[off, "f1"], higher_is_better=False)
    recipe = {"measure": {"runs": 2}, "gate": {"max_score": 1.0, "max_drop": 0.5}}
    report = compress(given_model(), recipe, tiny_data, task=task).report
    assert [measure.name for measure in report.measures] == ["off", "F1"]
    assert report.passed
    with pytest.raises(OptionError, match="gate min_score: of off, lower is better; set max_score"):
        compress(given_model(), {"gate": {"min_score": 0.5}}, tiny_data, task=task)


def test_models_that_are_no_classifiers(tiny_data: Dataset) -> None:
    flat = keras.Input((6,))
    two = keras.Model(flat, [keras.layers.Dense(2)(flat), keras.layers.Dense(2)(flat)])
    with pytest.raises(ModelError, match="a built model with one output"):
        compress(two, {}, tiny_data)
    image = keras.Model(flat, keras.layers.Reshape((3, 2))(flat))
    with pytest.raises(ModelError, match=r"output of shape \(None, 3, 2\)"):
        compress(image, {}, tiny_data)
    with pytest.raises(ModelError, match=r"expected a keras\.Model\. Received str"):
        compress("convnet", {}, tiny_data)


def test_a_model_that_cannot_be_loaded_again_is_refused_before_training(tiny_data: Dataset) -> None:
    flat = keras.Input((6,))
    model = keras.Model(flat, keras.layers.Lambda(lambda x: x[:, :2])(flat))
    with pytest.raises(
        ArtifactError, match="contains code that loading would run: the Lambda layer"
    ):
        compress(model, {"train": {}}, tiny_data)


def test_what_is_missing_is_listed_without_tensorflow() -> None:
    with pytest.raises(RecipeError) as error:
        prepare(None, parse_recipe({}))
    assert [line.split(":")[1].split()[0] for line in str(error.value).splitlines()] == [
        "[model]",
        "[data]",
    ]


def test_the_folder_is_checked_before_the_data(
    tmp_path: Path, tiny: dict[str, Any], tiny_data: Dataset
) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(OptionError, match="not empty"):
        prepare(None, tiny, tiny_data, out=tmp_path)


def test_several_workers_need_a_folder_and_a_cluster(
    tiny: dict[str, Any], tiny_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    recipe = {**tiny, "train": {"strategy": "multi_worker"}}
    with pytest.raises(OptionError, match="needs a folder that all workers see"):
        compress(None, recipe, tiny_data)
    with pytest.raises(OptionError, match="needs the variable TF_CONFIG"):
        compress(None, recipe, tiny_data, out=tmp_path / "run")
