"""One convnet, dense and with 90 % zeros, in LiteRT, ONNX Runtime and DeepSparse.

    python benchmarks/onnx_engines.py --deepsparse VENV/bin/python [--rounds 30]

DeepSparse 1.8 needs numpy below 2, so it lives in an environment of its own:

    python3.11 -m venv VENV && VENV/bin/pip install 'deepsparse==1.8.0' 'numpy<2'

Each engine is a process of its own with one thread; they take turns. Weights are random: what is
measured is the file, not what it has learnt.
"""

import argparse
import functools
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from harness import publish, ratios_to, take_turns
from workers import Worker

from tfprune.deploy.onnx.to_onnx import to_onnx
from tfprune.deploy.tflite import to_tflite
from tfprune.graph.cost.macs import macs
from tfprune.measure.latency import ratio_of
from tfprune.report.figures import bytes_text, ms, ratio, si
from tfprune.sparsity.pruning import prune, strip_pruning

SEED = 0
SPARSITY = 0.9
L = keras.layers


def convnet() -> keras.Model:
    """Return a convnet for images of 64x64: nine convolutions of 64 to 256 channels."""
    model = keras.Sequential([keras.Input((64, 64, 3), name="image")], name="convnet")
    for width in (64, 128, 256):
        for _ in range(3):
            model.add(L.Conv2D(width, 3, padding="same", use_bias=False))
            model.add(L.BatchNormalization())
            model.add(L.ReLU())
        model.add(L.MaxPooling2D())
    model.add(L.GlobalAveragePooling2D())
    model.add(L.Dense(10))
    return model


def main() -> None:
    """Make the files, compare what the engines answer, time them in turns, publish the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deepsparse", required=True, help="a python that has deepsparse")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    keras.utils.set_random_seed(SEED)
    dense = convnet()
    x = np.random.default_rng(SEED).normal(size=(1, 64, 64, 3)).astype("float32")
    holed = keras.models.clone_model(dense)
    holed.set_weights(dense.get_weights())
    prune(holed, SPARSITY)
    models = {"dense": dense, "90 % zeros": strip_pruning(holed)}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "x.npz"), x=x)
        engines = {
            "litert": Worker("engines.py", "litert"),
            "onnxruntime": Worker("engines.py", "onnxruntime"),
            "deepsparse": Worker("engines.py", "deepsparse", options.deepsparse),
        }
        cases, errors, sizes, walls = {}, {}, {}, {}
        for kind, model in models.items():
            files = {
                "litert": to_tflite(model, Path(folder, f"{kind}.tflite"), batch=1),
                "onnx": to_onnx(model, Path(folder, f"{kind}.onnx"), batch=1),
            }
            expected = np.asarray(model(x))
            for name, engine in engines.items():
                case = f"{name}, {kind}"
                file = files["litert" if name == "litert" else "onnx"]
                job = {"load": str(file.path), "name": case, "inputs": str(Path(folder, "x.npz"))}
                engine.ask(job)
                engine.ask({"answer": case, "outputs": str(Path(folder, "y.npz"))})
                found = np.load(Path(folder, "y.npz"))["y"]
                errors[case] = float(np.abs(found - expected).max() / np.abs(expected).max())
                sizes[case] = file.report
                walls[case] = []
                cases[case] = functools.partial(_sample, engine, case, walls[case])
        samples = take_turns(cases, options.rounds)
    ratios = ratios_to("onnxruntime, dense", samples)
    spread = {case: ratio_of(values) for case, values in samples.items()}
    publish(
        "onnx_engines",
        title="A convnet with 90 % zeros, in three engines",
        columns=("file", "raw", "gzip", "CPU time [quartiles]", "wall time",
                 "ratio to ONNX Runtime, dense", "largest difference from Keras"),
        rows=[
            [
                case,
                str(bytes_text(sizes[case].raw_bytes)),
                str(bytes_text(sizes[case].gzip_bytes)),
                f"{ms(spread[case].median)} [{spread[case].q1:.3g}, {spread[case].q3:.3g}]",
                str(ms(float(np.median(walls[case])))),
                str(ratio(ratios[case])),
                f"{errors[case]:.1e}",
            ]
            for case in cases
        ],
        numbers={"cpu_ms": samples, "wall_ms": walls, "errors": errors},
        seeds=[SEED],
        remarks=[
            f"Batch 1, one thread, {options.rounds} rounds in turns, {si(macs(dense).total)} "
            "multiply-accumulates. CPU time is that of the engine's whole process. Differences "
            "are fractions of the largest output. DeepSparse 1.8.0, from an environment of its "
            "own."
        ],
    )  # fmt: skip


def _sample(engine: Worker, case: str, walls: list[float]) -> float:
    found = engine.ask({"run": case})
    walls.append(found["wall_ms"])
    return found["cpu_ms"]


if __name__ == "__main__":
    main()
