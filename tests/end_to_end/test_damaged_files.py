"""Damaged files of every kind into everything that reads files: one line, no crash, no hang.

The calls are made in this very process, which a crash would end.
"""

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tf_keras

import tfprune
from tests.end_to_end.entrances import MOST_BYTES
from tests.loading.damage import damaged_models
from tests.loading.test_load import save
from tests.runtime.mutations import mutations
from tfprune.errors import TfpruneError

COUNTS = [
    pytest.param(32, id="some"),
    pytest.param(2000, id="all", marks=[pytest.mark.exhaustive, pytest.mark.timeout(7200)]),
]
READERS = {
    "inspect": tfprune.inspect,
    "load_model": tfprune.load_model,
    "benchmark": lambda path: tfprune.benchmark(path, runs=1),
}


def small_model(k):
    """A model with the layers whose configs the generations write differently."""
    k.utils.set_random_seed(0)
    image = k.Input((8, 8, 3))
    h = k.layers.BatchNormalization()(k.layers.DepthwiseConv2D(3, name="depthwise")(image))
    h = k.layers.Conv2D(4, 3, activation="relu", name="conv")(h)
    return k.Model(image, k.layers.Dense(2, name="head")(k.layers.Flatten()(h)))


def read_all(paths: Iterator[Path]) -> dict[str, Counter[str]]:
    """Give every file to every reader and count what came of it, by reader."""
    found: dict[str, Counter[str]] = {name: Counter() for name in READERS}
    for path in paths:
        for name, read in READERS.items():
            try:
                read(path)
            except TfpruneError as error:
                found[name]["several lines" if "\n" in str(error) else "refused"] += 1
            else:
                found[name]["read"] += 1
        assert not any(counts["several lines"] for counts in found.values()), path
    logging.getLogger(__name__).info("%s", {name: dict(found[name]) for name in found})
    return found


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_tflite_files(count, tmp_path):
    model = small_model(keras)
    x = np.random.default_rng(0).normal(size=(50, 8, 8, 3)).astype("float32")
    files = [tfprune.to_tflite(model, scheme=s, calibration=x) for s in ("float32", "int8")]

    def paths() -> Iterator[Path]:
        for seed, file in enumerate(files):
            for number, copy in enumerate(mutations(file.bytes, count // 2, seed)):
                path = tmp_path / f"{seed}-{number}.tflite"
                path.write_bytes(copy)
                yield path
                path.unlink()

    found = read_all(paths())
    assert found["load_model"] == {"refused": count}
    for name in ("inspect", "benchmark"):
        assert found[name].total() == count
        assert found[name]["refused"] > count // 4
        assert found[name]["read"] > 0


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # What Keras says of what it could not restore.
def test_damaged_model_files(suffix, count, tmp_path):
    sources = [
        save(small_model(k), tmp_path / f"{name}{suffix}")
        for name, k in (("new", keras), ("old", tf_keras))
    ]
    folder = tmp_path / "damaged"
    folder.mkdir()
    found = read_all(damaged_models(sources, count, folder))
    assert found["inspect"] == found["benchmark"] == {"refused": count}
    assert found["load_model"].total() == count
    assert found["load_model"]["refused"] > count // 4


CHEAP = ["load_masks", "run --resume", "plan", "recipe", "report", "sidecar", "check's sidecar",
         "data .npz", "inspect", "sparse_ready", "check"]  # fmt: skip
"""Entrances that start no process for each file."""
MANY = [
    pytest.param(40, CHEAP, id="some"),
    pytest.param(
        5000,
        [*CHEAP, "Runner", "benchmark", "profile", "compare", "benchmark .onnx"],
        id="all",
        marks=[pytest.mark.exhaustive, pytest.mark.timeout(12 * 3600)],
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "names"), MANY)
def test_every_entrance_that_takes_files(count, names, tmp_path):
    """In a process of its own, whose memory is this alone; TFPRUNE_FUZZ_LOG goes on with a log."""
    log = Path(os.environ.get("TFPRUNE_FUZZ_LOG", tmp_path / "log"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.entrances", str(count), "--log", str(log),
         "--folder", str(tmp_path / "files"), "--only", *names],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {line["name"]: line for line in map(json.loads, log.read_text().splitlines())}
    assert list(found) == names
    for name, last in found.items():
        assert last["done"] >= count
        assert last["faults"] == []
        assert last["outcomes"]["refused"] > count // 8, name
        assert last["peak_bytes"] < MOST_BYTES
