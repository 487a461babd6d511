"""What a user waits for, in two checkouts by turns: importing, `--help`, and `shrink`.

`python benchmarks/house_times.py --before CHECKOUT` times it beside this one. They take turns;
CPU seconds of user and system, so that other work counts little. Python may store compiled files in
both checkouts, as it does for an installed package.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path

import harness
from house_source import commit_of

HERE = Path(__file__).parents[1]
SHRINK = """
import time, keras, tfprune
keras.utils.set_random_seed(0)
model = keras.applications.{name}(weights=None)
tfprune.units(model)
start = time.process_time()
tfprune.shrink(model, {{"channels": 0.5}}, verify={verify})
print(time.process_time() - start)
"""
CLONE = """
import time, keras, tfprune
model = keras.applications.{name}(weights=None)
small, _ = tfprune.shrink(model, {{"channels": 0.5}}, verify=False)
start = time.process_time()
keras.models.clone_model(small).set_weights(small.get_weights())
print(time.process_time() - start)
"""
IMPORT = "import tfprune"
HELP = "import sys; sys.argv = ['tfprune', '--help']; from tfprune.cli import main; main()"


def run(root: Path, code: str) -> float:
    """Return the CPU seconds of a process, or what it measured of a part of itself."""
    environment = {**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{root}: {done.stderr}")
    if code.startswith("\n"):
        return float(done.stdout.splitlines()[-1])
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Time both checkouts by turns and store the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of another commit")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    roots = {"before": options.before.resolve(), "after": HERE}
    cases = {
        "import tfprune": (IMPORT, 5),
        "tfprune --help": (HELP, 5),
        "shrink ResNet50": (SHRINK.format(name="ResNet50", verify=True), 1),
        "shrink ResNet50, verify=False": (SHRINK.format(name="ResNet50", verify=False), 1),
        "clone_model of that ResNet50": (CLONE.format(name="ResNet50"), 1),
        "shrink MobileNetV2": (SHRINK.format(name="MobileNetV2", verify=True), 1),
        "shrink MobileNetV2, verify=False": (SHRINK.format(name="MobileNetV2", verify=False), 1),
        "clone_model of that MobileNetV2": (CLONE.format(name="MobileNetV2"), 1),
    }
    rows, numbers = [], {}
    for name, (code, times) in cases.items():
        seconds = harness.take_turns(
            {side: partial(run, root, code) for side, root in roots.items()}, options.rounds * times
        )
        ratio = harness.ratios_to("before", seconds)["after"]
        sides = [f"{statistics.median(seconds[side]):.3f} s" for side in roots]
        rows.append([name, *sides, f"{ratio.median:.2f} [{ratio.q1:.2f}, {ratio.q3:.2f}]"])
        numbers[name] = seconds
        print(*rows[-1], sep="  ", flush=True)
    harness.publish(
        "house_times",
        title="What a user waits for, before and after the moves",
        columns=("CPU time", *map(commit_of, roots.values()), "after / before, quartiles"),
        rows=rows,
        numbers=numbers,
        seeds=[0],
        remarks=[
            f"Rounds: {options.rounds}; import and --help five times as many.",
            "clone_model: what Keras itself takes to make the smaller model again and copy its "
            "weights, with no search, no cut and no report.",
        ],
    )


if __name__ == "__main__":
    main()
