"""Every call that takes files, with damaged copies of good ones, and the outcomes.

`python -m tests.end_to_end.entrances 5000 --log fuzz.jsonl` gives each entrance so many and goes on
where it was broken off. The calls are made in this very process, which a crash would end.
"""

import argparse
import copy
import json
import logging
import random
import shutil
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import tfprune
from tests.loading.damage import mutated, mutated_config
from tests.runtime.mutations import mutations
from tfprune.data.npz import read_npz
from tfprune.errors import RecipeError, TfpruneError
from tfprune.pipeline.check import check
from tfprune.pipeline.compress import prepare
from tfprune.pipeline.folder import open_folder
from tfprune.pipeline.saving import load_artifact
from tfprune.recipe import load_recipe, parse_recipe, shipped_recipes
from tfprune.report import Report

CHUNK = 50
"""Files between two lines of the log."""
SLOW_S = 180.0
"""A call that takes longer hangs: the children's own limit is 120 s."""
MOST_BYTES = 2 << 30
"""What the caller may take at its peak."""

Damage = Callable[[bytes, random.Random], bytes]


def _peak_bytes() -> int:
    """The most memory this process has had; not, as getrusage counts, what its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@dataclass(frozen=True)
class Entrance:
    """A call that takes a file.

    Attributes:
        name: Of the call.
        sources: Good files, which are damaged in turn.
        read: Takes the path of a damaged copy under the name of the good one, alone in its folder
            but for what `beside` names.
        damages: Ways to damage its content, in turn.
        beside: Files that have to lie there, whole.
    """

    name: str
    sources: tuple[Path, ...]
    read: Callable[[Path], object]
    damages: tuple[Damage, ...]
    beside: tuple[Path, ...] = ()


@dataclass
class Found:
    """The outcomes of an entrance so far."""

    name: str
    done: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_bytes: int = 0


def feed(entrance: Entrance, count: int, folder: Path, found: Found | None = None) -> Found:
    """Give an entrance damaged files until it had so many; the same ones for the same numbers."""
    found = found or Found(entrance.name)
    for number in range(found.done, count):
        path = _damaged(entrance, number, folder / str(number))
        start = time.monotonic()
        outcome = _outcome(entrance.read, path)
        seconds = time.monotonic() - start
        if seconds > SLOW_S:
            outcome = f"took {seconds:.0f} s"
        known = outcome in ("read", "refused")
        found.outcomes[outcome if known else "fault"] += 1
        if not known:
            found.faults.append(f"{number}: {outcome}")
        found.done = number + 1
        found.slowest_s = max(found.slowest_s, round(seconds, 1))
        found.peak_bytes = _peak_bytes()
        shutil.rmtree(path.parent)
    return found


def _damaged(entrance: Entrance, number: int, folder: Path) -> Path:
    numbers = random.Random(f"{entrance.name} {number}")
    source = entrance.sources[number % len(entrance.sources)]
    damage = entrance.damages[number // len(entrance.sources) % len(entrance.damages)]
    folder.mkdir()
    for file in (*entrance.beside, *source.parent.glob(f"{source.stem}.*")):
        shutil.copy(file, folder)
    path = folder / source.name
    path.write_bytes(damage(source.read_bytes(), numbers))
    return path


def _outcome(read: Callable[[Path], object], path: Path) -> str:
    try:
        read(path)
    except RecipeError as error:
        # It lists every fault at once, one a line, each with its place.
        lines = str(error).splitlines()
        return "refused" if all(line.startswith(str(path)) for line in lines) else f"lines: {error}"
    except TfpruneError as error:
        lines = len(str(error).splitlines())
        return "refused" if lines == 1 else f"{lines} lines: {error}"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - what leaks is what is looked for
        return f"{type(error).__name__}: {str(error)[:300]}"
    return "read"


def by_bytes(content: bytes, numbers: random.Random) -> bytes:
    """Bytes changed, cut out, doubled, or cut off."""
    return mutated(content, numbers)


def by_words(content: bytes, numbers: random.Random) -> bytes:
    """Bytes changed, zeroed, doubled, 32-bit numbers made extreme."""
    *_, last = mutations(content, numbers.randint(1, 5), numbers.randrange(2**32))
    return last


def by_characters(content: bytes, numbers: random.Random) -> bytes:
    """Some characters of a text changed."""
    text = content.decode()
    for _ in range(numbers.choice([1, 1, 3])):
        text = mutated_config(text, numbers)
    return text.encode()


HOSTILE = (None, True, False, -1, 0, 1, 10**18, 10**400, 1e308, -1e308, float("nan"), float("inf"),
           "", "x", "\0\n<b>|$", "x" * 10_000, [], {}, [[[]]], {"a": {}}, [None], "1")  # fmt: skip


def by_values(content: bytes, numbers: random.Random) -> bytes:
    """One value of JSON made hostile, dropped, moved, or one key added."""
    data = json.loads(content)
    holders = [inner for inner in _inside(data) if inner]
    holder = numbers.choice(holders)
    key = numbers.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    how = numbers.randrange(6)
    if how == 0:
        del holder[key]
    elif how == 1:
        other = numbers.choice(holders)
        holder[key] = copy.deepcopy(other)
    elif how == 2 and isinstance(holder, dict):
        holder[numbers.choice(["more", "sha256", ""])] = numbers.choice(HOSTILE)
    else:
        holder[key] = numbers.choice(HOSTILE)
    return json.dumps(data).encode()


def _inside(data: Any) -> list[Any]:
    values = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    found = [data] if isinstance(data, dict | list) else []
    return found + [inner for value in values for inner in _inside(value)]


def by_members(content: bytes, numbers: random.Random) -> bytes:
    """One member of an archive damaged, and packed again so that its checksum is right."""
    import io

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = numbers.choice(list(members))
    how = numbers.randrange(4)
    if how == 0:
        del members[name]
    elif how == 1 and name == "index.npy":
        index = np.load(io.BytesIO(members[name]))
        text = by_values(str(index).encode(), numbers).decode()
        buffer = io.BytesIO()
        np.save(buffer, np.array(text))
        members[name] = buffer.getvalue()
    elif how == 2:
        header, rest = members[name][:128], members[name][128:]
        members[name] = mutated(header, numbers) + rest
    else:
        members[name] = mutated(members[name], numbers)
    buffer = io.BytesIO()
    method = numbers.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return buffer.getvalue()


BINARY = (by_bytes, by_words)
JSON = (by_values, by_characters, by_bytes)
ARCHIVE = (by_members, by_bytes, by_words)
TEXT = (by_characters, by_bytes)


def entrances(folder: Path, *, onnx: bool = True) -> dict[str, Entrance]:
    """Make good files of every kind in a folder, and return every entrance with those it takes.

    Args:
        folder: A new one.
        onnx: Make one in ONNX, too, which takes a while.
    """
    import keras

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    for kind in ("tflite", "onnx", "masks", "data", "reports", "recipes"):
        (folder / kind).mkdir(parents=True)
    image = keras.Input((8, 8, 3))
    h = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    model = keras.Model(image, keras.layers.Dense(2, name="head")(keras.layers.Flatten()(h)))
    x = rng.normal(size=(40, 8, 8, 3)).astype("float32")
    y = np.arange(40) % 2
    files = [
        tfprune.to_tflite(
            model, folder / "tflite" / f"{scheme}.tflite", scheme=scheme, calibration=x
        )
        for scheme in ("float32", "int8")
    ]
    whole = files[0].bytes
    tflite = tuple(file.path for file in files)
    if onnx:
        tfprune.to_onnx(model, folder / "onnx" / "net.onnx")
    tfprune.prune(model, 0.5)
    masks = tfprune.save_masks(model, folder / "masks" / "masks.npz")
    np.savez_compressed(folder / "data" / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    run, recipe, data = _run(folder / "run")
    shutil.copy(run / "report.json", folder / "reports" / "run.json")
    recipes = tuple(
        Path(shutil.copy(file, folder / "recipes" / file.name))
        for file in shipped_recipes().values()
    )
    beside = tuple(file for file in run.iterdir() if file.name != "state.json")
    (folder / "state").mkdir()
    state = Path(shutil.copy(run / "state.json", folder / "state"))
    plan = folder / "reports" / "plan.json"
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16), keras.layers.Dense(2)])
    _, shrunk = tfprune.shrink(dense, {"channels": 0.5}, round_to=1)
    shrunk.plan.save(plan)
    sidecars = tuple(path.with_suffix(".json") for path in tflite)

    def compare(path: Path) -> None:
        tfprune.compare(whole, path, (x[:8], y[:8]), runs=1)

    def run_file(path: Path) -> None:
        runner = tfprune.runtime.litert.Runner(path)
        runner.prepare()
        runner.invoke()

    def resume(path: Path) -> None:
        job = prepare(None, recipe, data, out=path.parent, resume=True)
        identity = json.loads((run / "state.json").read_text())["identity"]
        with open_folder(job.out, job.recipe, identity, resume=True) as opened:
            json.dumps([asdict(done) for done in opened.done.values()])

    def show(path: Path) -> None:
        report = Report.load(path)
        report.to_text()
        report.to_markdown()
        report.to_html()

    made = [
        Entrance("inspect", tflite, lambda path: str(tfprune.inspect(path)), BINARY),
        Entrance("sparse_ready", tflite, lambda path: str(tfprune.sparse_ready(path)), BINARY),
        Entrance("check", tflite, check, BINARY),
        Entrance("Runner", tflite, run_file, BINARY),
        Entrance("benchmark", tflite, lambda path: tfprune.benchmark(path, runs=1), BINARY),
        Entrance("profile", tflite, _profile, BINARY),
        Entrance("compare", tflite, compare, BINARY),
        Entrance("benchmark .onnx", (folder / "onnx" / "net.onnx",),
                 lambda path: tfprune.benchmark(path, runs=1), BINARY),
        Entrance("load_masks", (masks,), lambda path: tfprune.load_masks(model, path), ARCHIVE),
        Entrance("data .npz", (folder / "data" / "data.npz",),
                 lambda path: read_npz(str(path), str(path)), ARCHIVE),
        Entrance("run --resume", (state,), resume, JSON, beside),
        Entrance("recipe", recipes, load_recipe, TEXT),
        Entrance("report", (folder / "reports" / "run.json",), show, JSON),
        Entrance("plan", (plan,), tfprune.Plan.load, JSON),
        Entrance("sidecar", sidecars, lambda path: load_artifact(_of(path)), JSON),
        Entrance("check's sidecar", sidecars, lambda path: check(_of(path)), JSON),
    ]  # fmt: skip
    return {entrance.name: entrance for entrance in made}


def _of(sidecar: Path) -> Path:
    return sidecar.with_suffix(".tflite")


def _profile(path: Path) -> object:
    from tfprune.measure.profile import profile

    return profile(path, runs=1)


def _run(out: Path) -> tuple[Path, Any, Any]:
    """Carry out a small run and return its folder, its recipe and its data."""
    from tfprune.pipeline import compress
    from tfprune.pipeline.datasets import as_dataset

    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    data = as_dataset(((x[:60], y[:60]), (x[60:], y[60:])))
    recipe = parse_recipe(
        {
            "model": {"source": "mlp", "options": {"width": 16}},
            "train": {"epochs": 2},
            "prune": {"sparsity": 0.5, "epochs": 2},
            "measure": {"runs": 3},
            "gate": {"max_accuracy_drop": 0.9},
        }
    )
    compress(None, recipe, data, out=out)
    return out, recipe, data


def main() -> None:
    """Feed every entrance, a chunk at a time, and write one line of JSON for each chunk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for the files; must be new")
    parser.add_argument("--only", nargs="*", default=())
    options = parser.parse_args()
    logging.disable()
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    names = options.only or None
    known = entrances(options.folder, onnx=names is None or "benchmark .onnx" in names)
    found = {name: Found(name) for name in names or known}
    if options.log.exists():
        for line in options.log.read_text().splitlines():
            last = json.loads(line)
            if last["name"] in found:
                found[last["name"]] = Found(**last | {"outcomes": Counter(last["outcomes"])})
    for name, so_far in found.items():
        while so_far.done < options.count:
            feed(known[name], min(so_far.done + CHUNK, options.count), options.folder, so_far)
            with options.log.open("a") as log:
                log.write(json.dumps(vars(so_far)) + "\n")
    bad = {name: one.faults for name, one in found.items() if one.faults}
    sys.exit(json.dumps(bad, indent=1) if bad else 0)


if __name__ == "__main__":
    main()
