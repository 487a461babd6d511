"""With the required packages only, the README works, and other calls name their extra."""

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXTRAS = {
    "matplotlib", "onnx", "onnxruntime", "sklearn", "tensorboard", "tensorflow_model_optimization",
    "tf2onnx", "tf_keras", "litert_quantizer", "zstandard",
}  # fmt: skip
HIDE = f"""
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(name, name=name)

import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: (
    None if name.partition(".")[0] in {EXTRAS!r} else found(name, *rest)
)
sys.meta_path.insert(0, Hidden())
"""
USE = """
import keras, numpy as np, tfprune

rng = np.random.default_rng(0)
x, y = rng.normal(size=(64, 8, 8, 1)).astype("float32"), rng.integers(0, 4, 64)
model = keras.Sequential([
    keras.Input((8, 8, 1)), keras.layers.Conv2D(16, 3, activation="relu"),
    keras.layers.Flatten(), keras.layers.Dense(4),
])
dense = tfprune.to_tflite(model)
model = tfprune.prune_low_magnitude(
    model, pruning_schedule=tfprune.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=4, frequency=1)
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(x, y, epochs=3, verbose=0, callbacks=[tfprune.UpdatePruningStep()])
model = tfprune.strip_pruning(model)
assert tfprune.sparsity_of(model).sparsity > 0.6
small, _ = tfprune.shrink(model, {"macs": 0.5})
artifact = tfprune.to_tflite(small, scheme="int8", calibration=x)
print(tfprune.benchmark(artifact, runs=3))
report = tfprune.compare({"dense": dense}, {"small": artifact}, (x, y), runs=3)
assert "file, zstd: not measured" in str(report), report
page = report.to_html()
assert "<svg" not in page and "tfprune[report]" in page

for call in (
    lambda: tfprune.to_onnx(model),
    lambda: tfprune.to_tf_keras(model),
    lambda: tfprune.load_model(sys.argv[1]),
    lambda: tfprune.PruningSummaries("logs"),
    lambda: tfprune.to_tflite(model, scheme="int4"),
):
    try:
        call()
    except tfprune.errors.OptionError as error:
        print("refused:", error)
"""


@pytest.mark.slow
def test_the_required_packages_suffice_for_the_main_calls(tmp_path: Path) -> None:
    import tf_keras

    old = tmp_path / "old.keras"
    tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(3,))]).save(old)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{HIDE}\nimport tfprune.errors\n{USE}", str(old)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    refused = [line for line in done.stdout.splitlines() if line.startswith("refused: ")]
    extras = [line.rpartition("tfprune[")[2].partition("]")[0] for line in refused]
    assert extras == ["onnx", "tf-keras", "tf-keras", "tensorboard", "quantizer"], done.stdout


@pytest.mark.parametrize("package", ["matplotlib", "zstandard", "tf-keras", "scikit-learn"])
def test_the_missing_packages_are_extras(package: str) -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    assert package not in setup["options"]["install_requires"]
    assert package in "".join(setup["options.extras_require"].values())
