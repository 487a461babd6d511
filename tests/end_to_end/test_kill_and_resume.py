"""A run that is killed at any moment and resumed gives what an uninterrupted run gives."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.end_to_end.resumed_runs import resumed_run
from tfprune.loading.load import load_model

SETTINGS = [
    "model.options.width=4",
    "data.limit=150",
    "train.epochs=3",
    "prune.epochs=3",
    "prune.end_epoch=2",
    "measure.runs=5",
    "gate.max_accuracy_drop=0.99",
    "gate.min_compression=1.0",
]
STAGES = ["train", "baseline", "prune", "quantize", "measure", "report"]


def start(out: Path) -> subprocess.Popen:
    """Begin the run in `out`, or go on with it."""
    return resumed_run(out, SETTINGS)


def state(out: Path) -> dict[str, Any]:
    path = out / "state.json"
    return json.loads(path.read_text()) if path.exists() else {"running": None, "stages": {}}


def kill_in(out: Path, stage: str) -> None:
    """Go on with a run and kill it, children and all, once a stage has begun."""
    run = start(out)
    deadline = time.monotonic() + 300
    while state(out)["running"] != stage:
        assert run.poll() is None, f"ended before {stage}: {run.communicate()}"
        assert time.monotonic() < deadline, f"{stage} did not begin"
        time.sleep(0.005)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()


def finish(out: Path) -> str:
    run = start(out)
    shown, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    return shown


def numbers(out: Path) -> dict[str, Any]:
    """Return all of a run that is not a time: files, figures and curves."""
    report = json.loads((out / "report.json").read_text())
    measured = ("name", "sha256", "raw_bytes", "gzip_bytes", "score", "agreement", "zeros",
                "weight_zeros", "params", "macs", "kernels", "max_abs_error")  # fmt: skip
    return {
        "rows": [{key: row[key] for key in measured} for row in report["rows"]],
        "history": report["history"],
        "stages": [stage["name"] for stage in report["stages"]],
        "tflite": [(out / f"{n}.tflite").read_bytes() for n in ("baseline", "model")],
    }


def assert_same(one: Path, other: Path) -> None:
    assert numbers(one) == numbers(other)
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    for name in ("baseline.keras", "pruned.keras", "model.keras"):
        weights = [load_model(out / name).get_weights() for out in (one, other)]
        for mine, yours in zip(*weights, strict=True):
            np.testing.assert_array_equal(mine, yours)


def assert_whole(out: Path) -> None:
    """Every file under its final name can be read, whatever was killed."""
    for path in out.glob("*.keras"):
        load_model(path)
    for path in out.glob("*.json"):
        json.loads(path.read_text())


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    finish(out)
    return out


@pytest.mark.slow
def test_killed_in_every_stage_in_turn(
    unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, temporary = tmp_path / "run", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    before: dict[str, Any] = {}
    for number, stage in enumerate(STAGES):
        kill_in(out, stage)
        assert_whole(out)
        done = state(out)["stages"]
        assert list(done) == STAGES[:number]
        assert (out / "baseline.keras").exists() == ("train" in done)
        # What was done before was neither done again nor changed: times and hashes are the same.
        assert {name: done[name] for name in before} == before
        before = done
    finish(out)
    done = state(out)["stages"]
    assert {name: done[name] for name in before} == before
    log = (out / "run.log").read_text()
    for stage in STAGES:
        assert log.count(f"{stage}: done in") == 1
    assert_same(out, unbroken)
    assert not list(temporary.glob("tfprune-*"))


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(0.1, marks=pytest.mark.exhaustive),
        pytest.param(0.3, marks=pytest.mark.slow),
        pytest.param(0.7, marks=pytest.mark.exhaustive),
    ],
)
def test_killed_at_any_moment(unbroken: Path, tmp_path: Path, part: float) -> None:
    out = tmp_path / "run"
    run = start(out)
    deadline = time.monotonic() + 120
    while state(out)["running"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lasts = sum(stage["seconds"] for stage in state(unbroken)["stages"].values())
    time.sleep(part * lasts)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert_whole(out)
    finish(out)
    assert_same(out, unbroken)


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 1, "interrupted"),
        (signal.SIGTERM, 128 + signal.SIGTERM, "interrupted by SIGTERM"),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
@pytest.mark.parametrize("stage", ["train", pytest.param("baseline", marks=pytest.mark.slow)])
def test_an_interrupted_run_cleans_up_and_says_how_to_resume(
    tmp_path: Path, number: int, code: int, said: str, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, temporary = tmp_path / "run", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    run = start(out)
    while state(out)["running"] != stage:
        assert run.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)
    if number == signal.SIGTERM:
        os.killpg(run.pid, number)  # as `systemctl stop` and schedulers do: to the children, too
    else:
        os.kill(run.pid, number)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == code
    last = errors.splitlines()[-1]
    assert last.startswith(f"tfprune: {said}. Resume with: tfprune run quickstart --set ")
    assert last.endswith(f"--out {out} --resume")
    assert "Traceback" not in errors
    assert not list(temporary.glob("tfprune-*"))
    with pytest.raises(ProcessLookupError):
        os.killpg(run.pid, 0)  # nobody of its group is left
    names = {path.name for path in out.iterdir()}
    assert names <= {
        "state.json",
        "recipe.toml",
        "run.log",
        "native.log",
        ".lock",
        "baseline.keras",
        "train.training",
    }
