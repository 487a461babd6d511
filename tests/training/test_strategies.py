"""Training on two devices of this machine, and on two workers of a cluster on it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tfprune.errors import OptionError
from tfprune.training.strategies import copy_run, make_strategy, place_in_cluster

CLUSTER = {"worker": ["one:1", "two:2"]}


def config(**fields: Any) -> str:
    return json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": 1}, **fields})


def test_the_place_in_a_cluster_is_that_of_tf_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", config())
    assert place_in_cluster() == (1, 2)
    cluster = {"chief": ["zero:0"], **CLUSTER}
    monkeypatch.setenv("TF_CONFIG", config(cluster=cluster))
    assert place_in_cluster() == (2, 3)
    monkeypatch.setenv("TF_CONFIG", config(cluster=cluster, task={"type": "chief", "index": 0}))
    assert place_in_cluster() == (0, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Received nothing"),
        ("{", "needs the variable TF_CONFIG"),
        ("[]", "needs the variable TF_CONFIG"),
        (config(task={"type": "worker", "index": 2}), "another index for each worker"),
        (config(task={"type": "ps", "index": 0}), "needs the variable TF_CONFIG"),
        (config(cluster={"worker": ["one:1"]}, task={"type": "worker", "index": 0}), "one worker"),
    ],
)
def test_a_wrong_cluster_is_one_line(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(OptionError, match=message) as caught:
        make_strategy("multi_worker")
    assert "\n" not in str(caught.value)


def test_one_device_cannot_be_mirrored() -> None:
    assert make_strategy(None) is None
    with pytest.raises(OptionError, match="mirrored needs several devices; this machine has one"):
        make_strategy("mirrored")


def test_a_run_is_copied_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "run" / "prune.training").mkdir(parents=True)
    (tmp_path / "run" / "prune.training" / "x").write_text("x")
    (tmp_path / "place").mkdir()
    copy_run(tmp_path / "run", tmp_path / "place")
    assert (tmp_path / "place" / "prune.training" / "x").read_text() == "x"
    copy_run(tmp_path / "none", tmp_path / "place")


RUN = """
import json, os, sys, time
import tensorflow as tf
strategy, out, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3])
if strategy != "multi_worker":
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
import numpy as np
from tfprune.errors import TfpruneError
from tfprune.pipeline import compress
from tfprune.sparsity import callbacks
from tfprune.sparsity.masks import holds_of

end = callbacks.MaskUpdates.on_train_end

def compared(self, logs=None):
    end(self, logs)
    for hold in holds_of(self.model):
        for one in (hold.mask, hold.kernel.variable.value, hold.movement):
            copies = [np.array(copy) for copy in getattr(one, "values", [one])]
            assert all((copy == copies[0]).all() for copy in copies)
            assert len(copies) == (1 if strategy in ("", "multi_worker") else 2)
        assert (np.array(hold.kernel.variable)[~hold.mask_array()] == 0).all()

callbacks.MaskUpdates.on_train_end = compared
if "--slowly" in sys.argv:
    epoch_end = callbacks.MaskUpdates.on_epoch_end
    callbacks.MaskUpdates.on_epoch_end = lambda *args: (time.sleep(0.5), epoch_end(*args))
random = np.random.default_rng(0)
x = random.normal(size=(240, 6)).astype("float32")
y = (x[:, 0] > 0).astype(int)
recipe = {
    "model": {"source": "mlp", "options": {"width": 16}},
    "train": {"epochs": 4, "batch_size": 16, "learning_rate": 0.02},
    "prune": {"sparsity": 0.5, "epochs": epochs, "score": "movement"},
    "measure": {"runs": 2},
}
if strategy:
    recipe["train"]["strategy"] = strategy
try:
    data = (x[:160], y[:160]), (x[160:], y[160:])
    result = compress(None, recipe, data, out=out, resume="--resume" in sys.argv)
except TfpruneError as error:
    sys.exit(f"{type(error).__name__}: {error}")
weights = result.model.get_weights()
print(json.dumps([
    [row.score for row in result.report.rows],
    [float((weight == 0).mean()) for weight in weights],
    [weight.tobytes().hex() for weight in weights],
]))
"""


def start(strategy: str, out: Path, *more: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, strategy, str(out), *more],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result_of(run: subprocess.Popen) -> Any:
    shown, errors = run.communicate(timeout=800)
    assert run.returncode == 0, errors[-3000:]
    return json.loads(shown.splitlines()[-1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return result_of(start("", tmp_path_factory.mktemp("alone") / "run", "6"))


@pytest.mark.slow
def test_masks_are_equal_on_two_devices(tmp_path: Path, alone: Any) -> None:
    scores, zeros, _ = result_of(start("mirrored", tmp_path / "run", "6"))
    assert zeros == alone[1]  # exactly as many
    assert scores == pytest.approx(alone[0], abs=0.1)


def workers(out: Path, *more: str) -> list[subprocess.Popen]:
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    cluster = {"worker": [f"localhost:{one.getsockname()[1]}" for one in sockets]}
    for one in sockets:
        one.close()
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": n}} for n in range(2)]
    return [start("multi_worker", out, *more, TF_CONFIG=json.dumps(task)) for task in tasks]


@pytest.mark.slow
def test_two_workers_train_one_model_and_the_first_writes_it(tmp_path: Path, alone: Any) -> None:
    first, second = map(result_of, workers(tmp_path / "run", "6"))
    assert first == second
    assert first[1] == alone[1]
    assert first[0] == pytest.approx(alone[0], abs=0.1)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("dies", [0, 1])
def test_a_worker_that_dies_is_one_clear_error_and_the_run_is_resumed(
    dies: int, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    log, runs = out / "run.log", workers(out, "10", "--slowly")
    try:
        while "epoch 4 of 10" not in (log.read_text() if log.exists() else ""):
            assert [run.poll() for run in runs] == [None, None]
            time.sleep(0.05)
        os.kill(runs[dies].pid, signal.SIGKILL)
        _, errors = runs[1 - dies].communicate(timeout=120)
    finally:
        for run in runs:
            run.kill()
            run.communicate()
    assert runs[1 - dies].returncode == 1
    assert "TrainingError: another worker has ended" in errors.splitlines()[-1]
    one, other = map(result_of, workers(out, "10", "--resume"))
    assert one == other
    assert log.read_text().count(" of 10:") <= 11
