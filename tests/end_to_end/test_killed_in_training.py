"""A training that is killed with SIGKILL at random moments goes on at its epoch, bit for bit."""

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.resumed_runs import resumed_run
from tfprune.loading.load import load_model

EPOCHS = 60
RECIPES = {
    "prune": {
        "prune.epochs": EPOCHS, "prune.end_epoch": EPOCHS - 5, "prune.frequency": 7,
        "train.epochs": 1,
    },
    "shrink": {
        "shrink.epochs": EPOCHS, "shrink.target": "{ macs = 0.5 }", "shrink.round_to": 1,
        "train.epochs": 1, "prune.epochs": 1, "prune.end_epoch": 1,
    },
}  # fmt: skip
FILES = {"prune": "pruned.keras", "shrink": "shrunk.keras"}
COMMON = {
    "model.source": "convnet", "model.options.width": 4, "data.limit": 200,
    "train.batch_size": 32, "measure.runs": 2, "gate.max_accuracy_drop": 0.99,
    "gate.min_compression": 1.0,
}  # fmt: skip


def start(stage: str, out: Path) -> subprocess.Popen:
    settings = {**COMMON, **RECIPES[stage]}
    return resumed_run(out, [f"{key}={value}" for key, value in settings.items()])


def epochs_done(stage: str, out: Path) -> list[int]:
    """Return the epochs that the log says were done in a stage, in this order."""
    text = (out / "run.log").read_text() if (out / "run.log").exists() else ""
    within = text.partition(f"{stage}: begins")[2]
    return [int(number) for number in re.findall(rf"epoch (\d+) of {EPOCHS}:", within)]


def end(run: subprocess.Popen) -> None:
    _, errors = run.communicate(timeout=600)
    assert run.returncode == 0, errors


def kill_at(stage: str, out: Path, moment: random.Random) -> bool:
    """Resume a run and kill it within the next epochs; False if it ended before."""
    run, before = start(stage, out), len(epochs_done(stage, out))
    wanted = before + moment.randint(1, 2)
    while run.poll() is None and len(epochs_done(stage, out)) < wanted:
        time.sleep(0.002)
    time.sleep(moment.random() * 0.2)  # within an epoch, or while it is stored
    if run.poll() is not None:
        end(run)
        return False
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    return True


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("stage", ["prune", "shrink"])
@pytest.mark.parametrize("kills", [4, pytest.param(25, marks=pytest.mark.exhaustive)])
def test_no_more_than_one_epoch_is_done_twice(stage: str, kills: int, tmp_path: Path) -> None:
    end(start(stage, tmp_path / "unbroken"))
    out, moment, killed = tmp_path / "run", random.Random(kills), 0
    while killed < kills and kill_at(stage, out, moment):
        killed += 1
    end(start(stage, out))
    done = epochs_done(stage, out)
    assert sorted(set(done)) == list(range(1, EPOCHS + 1))
    # Each kill repeats at most the epoch that was being stored.
    assert set(np.diff(done)) <= {0, 1}
    assert len(done) <= EPOCHS + killed
    assert killed == kills
    assert (out / "run.log").read_text().count(f"{stage}: done in") == 1
    for name in (FILES[stage], "model.keras"):
        expected, found = (load_model(tmp_path / which / name) for which in ("unbroken", "run"))
        for one, other in zip(found.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    for name in ("baseline.tflite", "model.tflite"):
        assert (out / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()
    assert not list(out.glob("*.training"))
