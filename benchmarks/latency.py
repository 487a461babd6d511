"""What a scheme does to size and latency: a small convnet and an attention model, file by file.

    python benchmarks/latency.py [--runs 50] [--threads 1]

Weights are random and 80 % of them are zero where it says so: what is measured is the file, not
what it has learnt. Every file runs beside the dense float32 file of the same network, and that one
beside a copy of itself.
"""

import argparse
import dataclasses
import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from harness import publish

from tfprune.deploy.tflite import to_tflite
from tfprune.graph.cost.macs import macs
from tfprune.measure.fidelity import accuracy
from tfprune.measure.latency import interleaved
from tfprune.report.figures import bytes_text, ms, percent, ratio, si
from tfprune.runtime.artifact import Artifact

SEED = 0
SPARSITY = 0.8
SCHEMES = ("float16", "dynamic", "int8")
L = keras.layers


def convnet() -> keras.Model:
    """Return a convnet for images of 32x32."""
    model = keras.Sequential([keras.Input((32, 32, 3), name="image")], name="convnet")
    for width in (32, 64, 128):
        model.add(L.Conv2D(width, 3, padding="same", use_bias=False))
        model.add(L.BatchNormalization())
        model.add(L.ReLU())
        model.add(L.MaxPooling2D())
    model.add(L.GlobalAveragePooling2D())
    model.add(L.Dense(10))
    return model


def attention() -> keras.Model:
    """Return two transformer blocks for 64 vectors of 64 numbers."""
    inputs = x = keras.Input((64, 64), name="vectors")
    for _ in range(2):
        normal = L.LayerNormalization()(x)
        x = L.Add()([x, L.MultiHeadAttention(4, 16)(normal, normal)])
        wide = L.Dense(256, activation="relu")(L.LayerNormalization()(x))
        x = L.Add()([x, L.Dense(64)(wide)])
    outputs = L.Dense(10)(L.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, outputs, name="attention")


def with_zeros(model: keras.Model, share: float) -> keras.Model:
    """Return a copy whose kernels have their smallest weights at zero."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for variable in copy.trainable_variables:
        if len(variable.shape) > 1:
            values = variable.numpy()
            values[np.abs(values) < np.quantile(np.abs(values), share)] = 0.0
            variable.assign(values)
    return copy


def files_of(
    model: keras.Model, samples: np.ndarray
) -> tuple[dict[str, Artifact], dict[str, keras.Model]]:
    """Return the files to compare, the dense float32 one first, and the model of each."""
    holed = with_zeros(model, SPARSITY)
    models = dict.fromkeys(("float32", *SCHEMES), model)
    files = {
        scheme: to_tflite(
            model, scheme=scheme, calibration=None if scheme == "float32" else samples
        )
        for scheme in models
    }
    name = f"int8, {percent(SPARSITY)} zeros"
    files[name] = to_tflite(holed, scheme="int8", calibration=samples)
    return files, {**models, name: holed}


def measure(model: keras.Model, runs: int, threads: int) -> tuple[list[list[str]], dict[str, Any]]:
    """Return the rows of one network, and their numbers."""
    shape = model.inputs[0].shape[1:]
    samples = np.random.default_rng(SEED).normal(size=(256, *shape)).astype("float32")
    files, models = files_of(model, samples)
    found = interleaved(list(files.values()), names=list(files), threads=threads, runs=runs)
    answers = {name: own.predict(samples, verbose=0).argmax(-1) for name, own in models.items()}
    scores = [accuracy(file, (samples, answers[name])) for name, file in files.items()]
    rows, numbers = [], {}
    base = files["float32"]
    ratios = [None, *found.ratios]
    for (name, file), latency, beside, score in zip(
        files.items(), found.latencies, ratios, scores, strict=True
    ):
        smaller = base.report.gzip_bytes / file.report.gzip_bytes
        rows.append(
            [
                model.name,
                name,
                str(bytes_text(file.report.raw_bytes)),
                f"{bytes_text(file.report.gzip_bytes)} ({smaller:.1f}x)",
                str(percent(score)),
                str(ms(latency.median_ms)),
                str(ms(latency.p90_ms)),
                ratio(beside) or "1",
            ]
        )
        numbers[name] = {
            "raw_bytes": file.report.raw_bytes,
            "gzip_bytes": file.report.gzip_bytes,
            "agreement_with_keras": score,
            "sha256": file.report.sha256,
            "latency": dataclasses.asdict(latency),
            "ratio": dataclasses.asdict(beside) if beside else None,
        }
    noise = found.conditions.noise
    rows.insert(1, [model.name, "float32 again (A/A)", "", "", "", "", "", str(ratio(noise))])
    return rows, {"macs": macs(model).total, "noise": dataclasses.asdict(noise), "files": numbers}


def main() -> None:
    """Measure both networks and publish the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows, numbers, costs = [], {}, []
    for build in (convnet, attention):
        keras.utils.set_random_seed(SEED)
        model = build()
        found, numbers[model.name] = measure(model, options.runs, options.threads)
        rows += found
        costs.append(f"{model.name} {si(numbers[model.name]['macs'])}")
    clock = "thread CPU time" if options.threads == 1 else "wall time"
    publish(
        "latency",
        title="Latency and size by scheme",
        columns=(
            "network", "file", "raw", "gzip (smaller)", "agreement with Keras", "median", "p90",
            "ratio to float32",
        ),
        rows=rows,
        numbers=numbers,
        seeds=[SEED],
        remarks=[
            f"Batch 1, {options.threads} thread(s), {clock}, {options.runs} interleaved pairs. "
            "The ratio is the file's time over that of the dense float32 file, median "
            "[quartiles]; below 1 is faster. "
            f"Multiply-accumulates: {', '.join(costs)}."
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
