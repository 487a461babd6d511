"""Whether XNNPACK's sparse kernels run, read from the runtime's own profile.

    python benchmarks/sparse_kernels.py [--runs 30]

A MobileNetV1-like net whose 1x1 convolutions have 70, 80 and 90 % zeros goes through
`make_sparse_ready` and is written dense and sparse. Each pair of files is profiled and timed twice:
as this processor is, and with AVX hidden from the process (see hidden_avx.py), which is the nearest
an x86 comes to the 128-bit vectors of an ARM. Weights are random.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from hidden_avx import can_hide, hide

SEED = 0
SHARES = (0.7, 0.8, 0.9)


def look(paths: list[str], runs: int) -> dict[str, Any]:
    """Return the kernels of files and interleaved times, in a process that has hidden AVX or not.

    Everything is loaded here and nowhere else: libraries choose their kernels when they load.
    """
    import time

    from tfprune.measure.devices.litert_profile import ProfiledModel
    from tfprune.measure.devices.timing_jobs import load, sample_ms
    from tfprune.measure.latency import pair_schedule
    from tfprune.measure.profile import steps_of

    steps = {path: steps_of(list(ProfiledModel(path, 1, {}).run(runs))) for path in paths}
    runners = [load(path, 1, {}) for path in (*paths, paths[0])]
    for runner in runners:
        sample_ms(runner.invoke, 3, time.thread_time_ns)
    times = [
        (file, sample_ms(runners[file].invoke, 1, time.thread_time_ns))
        for file in pair_schedule(len(paths), runs)
    ]
    return {
        "kernels": {
            path: [[step.name, step.median_us] for step in found] for path, found in steps.items()
        },
        "times": times,
    }


def net(share: float) -> Any:
    """Return a MobileNetV1-like net for images of 160x160 with zeros in its 1x1 convolutions."""
    import keras
    import numpy as np

    layers = keras.layers
    keras.utils.set_random_seed(SEED)

    def normed(x: Any) -> Any:
        return layers.ReLU(6.0)(layers.BatchNormalization()(x))

    inputs = keras.Input((160, 160, 3), name="image")
    x = normed(layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False)(inputs))
    widths = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for width, stride in zip(widths, (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1), strict=True):
        x = normed(layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(x))
        x = normed(layers.Conv2D(width, 1, use_bias=False)(x))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10)(x), name="mobile")
    for layer in model.layers:
        if type(layer) is layers.Conv2D and layer.kernel_size == (1, 1):
            kernel = layer.kernel.numpy()
            kernel[np.abs(kernel) < np.quantile(np.abs(kernel), share)] = 0.0
            layer.kernel.assign(kernel)
    return model


def seen_by(paths: list[str], runs: int, *, hidden: bool) -> dict[str, Any]:
    """Return what `look` finds in a process of its own."""
    words = [sys.executable, __file__, "--look", *paths, "--runs", str(runs)]
    done = subprocess.run(
        words + (["--hide"] if hidden else []), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"hidden={hidden}: {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(runs: int) -> tuple[list[list[str]], list[dict[str, Any]]]:
    """Return the rows of the table, and their numbers."""
    from tfprune.deploy.make_sparse_ready import make_sparse_ready
    from tfprune.deploy.tflite import to_tflite
    from tfprune.measure.devices.device import Sample
    from tfprune.measure.latency import pair_ratios
    from tfprune.report.figures import bytes_text, percent, ratio
    from tfprune.runtime.sparse_ready import sparse_ready

    rows, numbers = [], []
    with tempfile.TemporaryDirectory() as folder:
        for share in SHARES:
            model, _ = make_sparse_ready(net(share))
            dense, sparse = Path(folder, "dense.tflite"), Path(folder, "sparse.tflite")
            to_tflite(model, dense, batch=1)
            file = to_tflite(model, sparse, scheme="sparse", batch=1)
            verdict = sparse_ready(file)
            for hidden in (False, True) if can_hide() else (False,):
                found = seen_by([str(dense), str(sparse)], runs, hidden=hidden)
                samples = [Sample(index, time, 1) for index, time in found["times"]]
                beside, noise = pair_ratios(samples, 2)
                kernels = [name for name, _ in found["kernels"][str(sparse)]]
                count = sum("SPMM" in name for name in kernels)
                rows.append(
                    [
                        str(percent(share)),
                        "hidden" if hidden else "used",
                        "ready" if verdict.ready else "not ready",
                        f"{count} of {verdict.pointwise}",
                        str(bytes_text(dense.stat().st_size)),
                        str(bytes_text(sparse.stat().st_size)),
                        str(ratio(beside)),
                        f"{1 / beside.median:.2f}x",
                        str(ratio(noise)),
                    ]
                )
                numbers.append(
                    {"zeros": share, "avx_hidden": hidden, "ready": verdict.ready,
                     "reasons": list(verdict.reasons), "sparse_kernels": count,
                     "pointwise": verdict.pointwise, **found}
                )  # fmt: skip
    return rows, numbers


def main() -> None:
    """Look at files when asked to, else measure all and publish the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--look", nargs="+", metavar="FILE")
    parser.add_argument("--hide", action="store_true")
    options = parser.parse_args()
    if options.look:
        if options.hide:
            hide()
        print(json.dumps(look(options.look, options.runs)))
        return
    from harness import publish

    rows, numbers = measure(options.runs)
    remarks = [
        "`make_sparse_ready`, then dense and sparse float32 files, batch 1, one thread, thread CPU "
        f"time, {options.runs} interleaved pairs. Sparse kernels are those named SPMM in the "
        "runtime's profile of the sparse file, of all 1x1 convolutions."
    ]
    if not can_hide():
        remarks.append("This processor cannot hide AVX: there is no row without it.")
    publish(
        "sparse_kernels",
        title="Sparse kernels, named by the runtime",
        columns=("zeros in 1x1", "AVX", "checker", "sparse kernels", "dense file", "sparse file",
                 "sparse/dense", "speed-up", "A/A"),
        rows=rows,
        numbers=numbers,
        seeds=[SEED],
        remarks=remarks,
    )  # fmt: skip


if __name__ == "__main__":
    main()
