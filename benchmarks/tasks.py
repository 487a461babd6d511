"""The recipes of nine tasks, run whole: the task's metric of the dense and of the small file.

    python benchmarks/tasks.py [--seeds 0 1 2] [--folder runs/tasks] [--only pairs spoken]

Every run is a process of its own. With a folder, runs that are in it already are not repeated.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import publish

RECIPES = {
    "regression": "regression: a table of ten numbers",
    "segmentation": "segmentation: a U-Net",
    "boxes": "class and box, two outputs",
    "anomalies": "anomalies by an autoencoder",
    "spoken": "spoken digits as spectrograms",
    "questions": "questions as tokens, an LSTM",
    "forecast": "a forecast from three inputs",
    "pairs": "pairs by distance",
    "labels": "several labels, class weights",
}


def run(name: str, seed: int, out: Path) -> dict[str, Any]:
    """Run a recipe, unless it has been run in this folder, and return its figures."""
    found = out / "seconds.json"
    if not found.exists():
        words = [f"{table}.seed={seed}" for table in ("train", "data")]
        settings = [part for word in words for part in ("--set", word)]
        call = [sys.executable, "-m", "tfprune.cli", "run", name, *settings, "--out", str(out)]
        start, before = time.perf_counter(), os.times()
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        after = os.times()
        if not (out / "report.json").exists():
            raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
        processor = sum(after[2:4]) - sum(before[2:4])
        found.write_text(json.dumps({"wall": time.perf_counter() - start, "processor": processor}))
    report = json.loads((out / "report.json").read_text())
    dense, small = report["rows"]
    return {
        "metric": report["measures"][0]["name"],
        "unit": report["measures"][0].get("unit", ""),
        "dense": dense["score"],
        "small": small["score"],
        "gzip": dense["gzip_bytes"] / small["gzip_bytes"],
        "macs": small["macs"] / dense["macs"],
        "passed": all(gate["passed"] for gate in report["gates"]),
        "seconds": json.loads(found.read_text()),
    }


def main() -> None:
    """Run every recipe with every seed and publish the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES))
    options = parser.parse_args()
    rows, numbers = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name in options.only:
            found = [run(name, seed, folder / f"{name}-{seed}") for seed in options.seeds]
            numbers[name] = found
            rows.append(row_of(name, found))
            print(rows[-1], flush=True)
    if len(options.only) < len(RECIPES):
        return
    publish(
        "tasks",
        title="Nine tasks by recipe",
        columns=["recipe", "task", "metric", "dense", "int8", "gzip", "MACs", "gate", "time"],
        rows=rows,
        numbers=numbers,
        seeds=options.seeds,
        remarks=[
            "`tfprune run RECIPE`: trained, pruned or shrunk, converted to int8, measured. The "
            "metric is of the files, on the test set: the median of the seeds, and in brackets the "
            "lowest and the highest. gzip: times smaller under gzip. Time is that of the processor "
            "for one run."
        ],
    )


def row_of(name: str, found: list[dict[str, Any]]) -> list[str]:
    """Return the cells of a recipe."""
    unit = f" {found[0]['unit']}" if found[0]["unit"] else ""
    passed = sum(one["passed"] for one in found)
    return [
        name,
        RECIPES[name],
        found[0]["metric"],
        spread([one["dense"] for one in found]) + unit,
        spread([one["small"] for one in found]) + unit,
        f"{np.median([one['gzip'] for one in found]):.1f}x",
        f"{np.median([one['macs'] for one in found]):.0%}",
        "passed" if passed == len(found) else f"passed {passed} of {len(found)}",
        f"{np.median([one['seconds']['processor'] for one in found]):.0f} s",
    ]


def spread(values: list[float]) -> str:
    """Return the median, and the range if there are several values.

    Example:
        >>> spread([0.5, 0.25, 1.0])
        '0.500 [0.250, 1.000]'
    """
    middle = f"{np.median(values):.3f}"
    return middle if len(values) == 1 else f"{middle} [{min(values):.3f}, {max(values):.3f}]"


if __name__ == "__main__":
    main()
