"""Sparse kernels run where there is no AVX, as read from the profile of the runtime."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tfprune.deploy.tflite import to_tflite
from tfprune.runtime.sparse_ready import sparse_ready

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
L = keras.layers

CODE = """
import json, sys
import hidden_avx
if sys.argv[2] == "hide":
    hidden_avx.hide()
from tfprune.measure.devices.litert_profile import ProfiledModel
(events,) = ProfiledModel(sys.argv[1], 1, {}).run(1)
print(json.dumps([hidden_avx.can_hide(), [name for _, name, _ in events]]))
"""


def kernels(path: Path, how: str) -> tuple[bool, list[str]]:
    """Return whether AVX can be hidden here, and the kernels that ran with it hidden or not."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(path), how],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    able, names = json.loads(done.stdout.splitlines()[-1])
    return able, names


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A stem, a depthwise and two 1×1 convolutions with 80 % zeros, a pooling and a head."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 16, 3))
    h = L.ReLU(6.0)(L.Conv2D(8, 3, strides=2, name="stem")(L.ZeroPadding2D(1)(inputs)))
    h = L.DepthwiseConv2D(3, padding="same", name="dw")(h)
    h = L.Conv2D(16, 1, activation="relu", name="pw1")(h)
    h = L.GlobalAveragePooling2D(keepdims=True)(L.Conv2D(16, 1, name="pw2")(h))
    model = keras.Model(inputs, L.Dense(3)(L.Flatten()(h)))
    for name in ("pw1", "pw2"):
        kernel = model.get_layer(name).kernel
        values = kernel.numpy()
        values[np.abs(values) < np.quantile(np.abs(values), 0.8)] = 0.0
        kernel.assign(values)
    return model


@pytest.mark.parametrize("scheme", ["float32", "sparse"])
def test_sparse_kernels_run_for_a_sparse_file_where_there_is_no_avx(model, scheme, tmp_path):
    file = to_tflite(model, tmp_path / "m.tflite", scheme=scheme, batch=1)
    with open("/proc/cpuinfo") as cpu:
        avx = " avx " in cpu.read()
    able, seen = kernels(file.path, "show")
    assert sum("SPMM" in name for name in seen) == (2 if scheme == "sparse" and not avx else 0)
    if scheme == "sparse":
        assert sparse_ready(file).ready
        assert sparse_ready(file).pointwise == 2
    if able:
        _, hidden = kernels(file.path, "hide")
        assert sum("SPMM" in name for name in hidden) == (2 if scheme == "sparse" else 0)
