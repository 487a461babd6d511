"""Single stages, on the files of a finished run."""

import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from tfprune.pipeline import Result, stages
from tfprune.pipeline.datasets import Dataset
from tfprune.pipeline.folder import Done, RunFolder
from tfprune.pipeline.saving import load_artifact
from tfprune.recipe import parse_recipe
from tfprune.report import Report
from tfprune.runtime.inspect import inspect
from tfprune.structure.rebuild.recalibrate import recalibrate
from tfprune.utils.progress import SILENT


@pytest.fixture
def run(finished: Result, tiny: dict, tiny_data: Dataset, tmp_path: Path) -> stages.Run:
    """A run with the finished files in a folder of its own."""
    assert finished.folder is not None
    shutil.copytree(finished.folder, tmp_path / "run")
    folder = RunFolder(tmp_path / "run", {}, {"train": Done(0.0, {}), "prune": Done(0.0, {})})
    return stages.Run(parse_recipe(tiny), tiny_data, folder, keras.Sequential, SILENT)


def changed(run: stages.Run, **tables: dict) -> stages.Run:
    return dataclasses.replace(run, recipe=parse_recipe({**run.recipe.to_dict(), **tables}))


def test_the_plan_follows_the_recipe(tiny: dict) -> None:
    assert list(stages.plan(parse_recipe(tiny))) == [
        "train", "baseline", "prune", "quantize", "measure", "report"
    ]  # fmt: skip
    assert list(stages.plan(parse_recipe({}))) == [
        "train", "baseline", "quantize", "measure", "report"
    ]  # fmt: skip
    both = parse_recipe({**tiny, "shrink": {"target": {"params": 0.5}}})
    assert list(stages.plan(both))[2:4] == ["shrink", "prune"]
    closed = parse_recipe({**tiny, "shrink": {"target": "zeros"}})
    assert list(stages.plan(closed))[2:5] == ["prune", "shrink", "quantize"]


def test_pruning_from_the_same_file_gives_the_same_weights(run: stages.Run) -> None:
    before = run.load("pruned.keras").get_weights()
    facts = stages.prune_model(run)
    for old, new in zip(before, run.load("pruned.keras").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert facts["sparsity"] == 0.5


def test_layers_that_are_skipped_are_named(run: stages.Run) -> None:
    facts = stages.prune_model(changed(run, prune={"skip": ["logits"], "epochs": 1}))
    assert "not pruned: logits/kernel: left out by only= or skip=" in facts["notes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "prune",
    [
        {"sparsity": 0.5, "score": "taylor"},
        {"sparsity": 0.5, "score": "movement"},
        {"pattern": "2:4"},
        {"sparsity": 0.5, "allocation": {"dense": 0.25}},
        {"sparsity": 0.5, "schedule": "constant", "begin_epoch": 0.5},
    ],
    ids=str,
)
def test_every_kind_of_pruning_runs(run: stages.Run, prune: dict) -> None:
    facts = stages.prune_model(changed(run, prune={"epochs": 2} | prune))
    kernels = [layer.kernel.numpy() for layer in run.load("pruned.keras").layers if layer.weights]
    zeros = sum(kernel.size - np.count_nonzero(kernel) for kernel in kernels)
    size = sum(kernel.size for kernel in kernels)
    if "allocation" in prune:
        wanted = (6 * 16 + 16 * 8) * 0.25
    elif "pattern" in prune:  # of six inputs, four lose two and the other two stay
        wanted = 2 * 16 + 8 * 8 + 4 * 2
    else:
        wanted = size * 0.5
    assert zeros == pytest.approx(wanted, abs=3)
    assert facts["sparsity"] == zeros / size


@pytest.mark.slow
@pytest.mark.parametrize("importance", ["l2", "taylor"])
def test_units_are_removed_before_weights_are_pruned(run: stages.Run, importance: str) -> None:
    table = {"target": {"params": 0.5}, "importance": importance, "round_to": 2, "epochs": 2}
    both = changed(run, shrink=table, prune={"sparsity": 0.5, "epochs": 2})
    facts = stages.shrink_model(both)
    stages.prune_model(both)
    dense, shrunk, pruned = (both.load(f"{n}.keras") for n in ("baseline", "shrunk", "pruned"))
    assert shrunk.count_params() <= 0.5 * dense.count_params()
    assert pruned.count_params() == shrunk.count_params()
    assert {row[0] for row in facts["removed"]} == {"dense1", "dense2"}
    for name in ("dense1", "dense2", "logits"):
        kernel = pruned.get_layer(name).kernel
        assert np.count_nonzero(kernel) == kernel.shape[0] * kernel.shape[1] // 2


def test_kept_units_are_not_listed_as_removed(run: stages.Run) -> None:
    table = {"target": {"params": 0.8}, "round_to": 2, "only": ["dense1"], "epochs": 0}
    removed = stages.shrink_model(changed(run, shrink=table))["removed"]
    assert [row[0] for row in removed] == ["dense1"]


@pytest.mark.parametrize("normalized", [False, True])
def test_repair_makes_the_shrunken_model_more_accurate(run: stages.Run, normalized: bool) -> None:
    x = run.data.train.x
    if normalized:
        layers = keras.layers
        hidden = [
            layers.Dense(32, name="dense1"), layers.BatchNormalization(name="norm"), layers.ReLU()
        ]  # fmt: skip
        model = keras.Sequential([keras.Input(x.shape[1:]), *hidden, layers.Dense(3)])
        recalibrate(model, x)
        model.save(run.folder.file("baseline.keras"))
    dense = run.load("baseline.keras")
    errors = {}
    for examples in (0, 256):
        table = {"target": {"params": 0.6}, "round_to": 2, "epochs": 0, "repair": examples}
        stages.shrink_model(changed(run, shrink=table))
        small = run.load("shrunk.keras")
        errors[examples] = float(
            np.abs(small.predict(x, verbose=0) - dense.predict(x, verbose=0)).mean()
        )
    assert errors[256] < 0.7 * errors[0]
    if normalized:
        seen = small.get_layer("dense1")(x[:256]).numpy()
        np.testing.assert_allclose(small.get_layer("norm").moving_mean, seen.mean(0), atol=1e-4)


@pytest.mark.parametrize("scheme", ["float32", "float16", "dynamic"])
def test_every_scheme_is_written(run: stages.Run, scheme: str) -> None:
    stages.quantize(changed(run, quantize={"scheme": scheme}))
    artifact = load_artifact(run.folder.file("model.tflite"))
    assert artifact.report.scheme == scheme


def test_inputs_and_outputs_of_the_file_may_be_float(run: stages.Run) -> None:
    stages.quantize(changed(run, quantize={"scheme": "int8", "io": "float32"}))
    artifact = load_artifact(run.folder.file("model.tflite"))
    assert artifact.report.inputs[0].dtype == "float32"
    assert "QUANTIZE" in artifact.report.ops


def test_layers_may_have_schemes_of_their_own(run: stages.Run) -> None:
    pytest.importorskip("litert_quantizer", reason="needs the extra [quantizer]")
    table = {"scheme": "weight_int8", "layers": {"logits": "float32"}}
    stages.quantize(changed(run, quantize=table))
    found = inspect(run.folder.file("model.tflite"))
    assert {row.dtype for row in found.tensors if row.elements == 8 * 2} == {"float32"}
    assert {row.dtype for row in found.tensors if row.elements == 16 * 8} == {"int8"}


def test_calibration_uses_the_training_set_only(run: stages.Run) -> None:
    drawn, _ = run.calibration()
    assert drawn.shape == (50, 6)
    rows = {row.tobytes() for row in run.data.train.x}
    assert all(row.tobytes() in rows for row in drawn)
    np.testing.assert_array_equal(drawn, run.calibration()[0])


def test_a_missed_gate_is_in_the_report(run: stages.Run) -> None:
    facts = stages.write_report(changed(run, gate={"min_compression": 1000}))
    assert facts == {"passed": False}
    assert "min_compression" in run.folder.file("report.md").read_text()
    limits = {"max_bytes": 10_000_000, "max_gzip_bytes": 1, "min_accuracy": 0.01}
    assert stages.write_report(changed(run, gate=limits)) == {"passed": False}
    verdicts = Report.from_json(run.folder.file("report.json").read_text()).gates
    assert {gate.name: gate.passed for gate in verdicts} == {
        "max_bytes": True, "max_gzip_bytes": False, "min_accuracy": True
    }  # fmt: skip


def test_a_scheme_is_chosen_on_the_validation_set_and_the_report_says_why(run: stages.Run) -> None:
    run = changed(run, quantize={"scheme": "auto", "calibration": 50, "max_drop": 0.2})
    facts = stages.quantize(run)
    stored = load_artifact(run.folder.file("model.tflite"))
    choice = stored.report.choice
    assert choice is not None
    assert choice.judged_by == "accuracy"
    assert choice.max_drop == 0.2
    assert [row.scheme for row in choice.rows] == ["float32", "float16", "dynamic", "int8"]
    run.folder.done["quantize"] = Done(0.0, {}, facts)
    stages.measure(run)
    stages.write_report(run)
    text = run.folder.file("report.md").read_text()
    assert "## Candidates for the file" in text
    assert choice.why in text


def test_kernels_share_values_and_keep_the_zeros(run: stages.Run) -> None:
    both = changed(run, cluster={"clusters": 4, "epochs": 1, "skip": ["logits"]})
    assert list(stages.plan(both.recipe))[2:5] == ["prune", "cluster", "quantize"]
    facts = stages.cluster_model(both)
    before, after = both.load("pruned.keras"), both.load("clustered.keras")
    zeros = np.array(before.get_layer("dense1").kernel) == 0
    kernel = np.array(after.get_layer("dense1").kernel)
    assert (kernel[zeros] == 0).all()
    assert np.unique(kernel).size <= 4
    assert "not clustered: logits/kernel: left out by only= or skip=" in " ".join(
        note.replace("mlp/", "") for note in facts["notes"]
    )
    sizes = stages.quantize(both)["sizes"]
    assert [row[0] for row in sizes["rows"]] == [
        "baseline.keras", "pruned.keras", "clustered.keras"
    ]  # fmt: skip
