"""A run's folder, or a file with its report, checked on new data; and the command that does it."""

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from tfprune import cli
from tfprune.commands.files import GATES
from tfprune.errors import ArtifactError, DataError, OptionError
from tfprune.measure.check import Limits
from tfprune.pipeline import compress
from tfprune.pipeline.check import check
from tfprune.report import Gate


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    """A run's folder that a test may change."""
    return shutil.copytree(finished.folder, tmp_path / "run")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> dict[str, Path]:
    """New data like that of the run, and the same data with the labels exchanged."""
    x = np.random.default_rng(9).normal(size=(200, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    place = tmp_path_factory.mktemp("data")
    for name, labels in (("same", y), ("drifted", 1 - y)):
        np.savez(place / f"{name}.npz", x=x, y=labels)
    np.savez(place / "odd.npz", z=x)
    return {path.stem: path for path in place.iterdir()}


def command(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tfprune.cli", "check", *map(str, words)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_the_gates_of_a_run_are_those_of_its_recipe(folder, fresh) -> None:
    found = check(folder, data=fresh["same"])
    assert [gate.name for gate in found.gates] == ["unchanged", "max_accuracy_drop"]
    assert found.passed
    assert found.samples == 200


def test_further_gates_are_added(folder, fresh) -> None:
    limits = Limits(min_accuracy=0.8)
    assert check(folder, data=fresh["same"], limits=limits).passed
    found = check(folder, data=fresh["drifted"], limits=limits)
    assert {gate.name: gate.passed for gate in found.gates} == {
        "unchanged": True, "min_accuracy": False, "max_accuracy_drop": True
    }  # fmt: skip


def test_a_file_larger_than_in_its_report_misses_a_gate(folder) -> None:
    file = folder / "model.tflite"
    assert check(file).passed
    file.write_bytes(file.read_bytes() + np.random.default_rng(0).bytes(1000))
    found = check(file)
    assert not any(gate.passed for gate in found.gates)
    assert [gate.name for gate in found.gates] == ["unchanged", "max_bytes", "max_gzip_bytes"]


def test_latency_is_compared_with_the_baseline(folder) -> None:
    limits = Limits(max_latency_ratio=1e3, max_latency_ms=1e-6)
    found = check(
        folder / "model.tflite", limits=limits, baseline=folder / "baseline.tflite", runs=3
    )
    assert {gate.name for gate in found.gates if not gate.passed} == {"max_latency_ms"}
    assert found.conditions.runs == 3


@pytest.mark.parametrize("option", [{"device": "host"}, {"runs": 3}, {"threads": 2}])
def test_options_of_timing_are_refused_where_nothing_is_timed(folder, option) -> None:
    (name,) = option
    with pytest.raises(OptionError, match=f"{name}: nothing is timed, .* set max_latency_ms"):
        check(folder / "model.tflite", **option)


def test_a_gate_object_is_accepted_too(folder, fresh) -> None:
    found = check(folder, data=fresh["same"], limits=Gate(max_bytes=10))
    assert {gate.name: gate.passed for gate in found.gates}["max_bytes"] is False
    with pytest.raises(OptionError, match="gate: expected a Gate, .* Received dict"):
        check(folder, limits={"max_bytes": 10})


def test_a_drop_of_1_is_not_a_gate(folder, fresh) -> None:
    with pytest.raises(OptionError, match=r"below 1, such as 0\.01 for one point. Received 1"):
        check(folder, data=fresh["same"], limits=Limits(max_accuracy_drop=1))


def test_zero_runs_are_refused(folder) -> None:
    with pytest.raises(OptionError, match="runs: expected a whole number >= 1. Received 0"):
        check(folder / "model.tflite", limits=Limits(max_latency_ms=1e6), runs=0)


def test_the_command_ends_with_0_1_or_2(folder, fresh) -> None:
    done = command(folder, "--data", fresh["same"], "--min-accuracy", 0.8)
    assert done.returncode == cli.DONE, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["passed:"] * 3
    assert "XNNPACK" not in done.stderr
    done = command(folder, "--data", fresh["drifted"], "--min-accuracy", 0.8, "--json")
    assert done.returncode == cli.FAILED, done.stderr
    told = json.loads(done.stdout)
    assert told["passed"] is False
    assert told["accuracy"] < 0.2
    assert [gate["name"] for gate in told["gates"] if not gate["passed"]] == ["min_accuracy"]
    done = command(folder)
    assert done.returncode == cli.WRONG
    assert "needs labeled data; give an .npz with x and y" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_options_of_the_command_are_the_limits() -> None:
    assert list(GATES) == [field.name for field in fields(Limits)]


def test_missing_files_and_reports_are_a_one_line_error(folder, fresh, tmp_path) -> None:
    with pytest.raises(ArtifactError, match=r"model\.json: no such file"):
        check(tmp_path)
    (folder / "model.json").write_text('{"sha256": 3}')
    with pytest.raises(ArtifactError, match=r"model\.json: not a conversion report"):
        check(folder)


def test_data_without_labels_is_refused(folder, fresh) -> None:
    with pytest.raises(DataError, match=r"odd\.npz: expected arrays x and y. Received z"):
        check(folder, data=fresh["odd"])


STREAM = """
import numpy as np

random = np.random.default_rng(0)
x = random.normal(size=(160, 6)).astype("float32")
brighter = [0.0]

def read():
    for start in range(0, 160, 16):
        rows = slice(start, start + 16)
        yield x[rows] + brighter[0], (x[rows, 0] > 0).astype(int)

def data():
    return read, read
"""


def test_a_stream_that_has_changed_since_the_run_is_told_in_one_line(
    tiny, tmp_path, monkeypatch
) -> None:
    (tmp_path / "stream_of_a_run.py").write_text(STREAM)
    monkeypatch.syspath_prepend(tmp_path)
    recipe = {name: tiny[name] for name in ("model", "train", "measure", "gate")}
    recipe["data"] = {"source": "stream_of_a_run:data"}
    compress(None, recipe, out=tmp_path / "run")
    assert check(tmp_path / "run").notes == ()
    sys.modules["stream_of_a_run"].brighter[0] = 0.01
    (note,) = check(tmp_path / "run").notes
    assert note == (
        "the test set of [data] stream_of_a_run:data is not that of the run: it has changed since"
    )
    (tmp_path / "run" / "state.json").unlink()  # as by a version that noted no test set
    assert check(tmp_path / "run").notes == ()


def test_a_gate_of_accuracy_without_data_is_refused(folder) -> None:
    with pytest.raises(OptionError, match="needs labeled data"):
        check(folder / "model.tflite", limits=Limits(min_accuracy=0.5))
