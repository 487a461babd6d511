"""Every model of keras.applications at half its width: what is left, and the proof of it.

Half of every group goes, by the same share everywhere and with no rounding. Multiplications are
counted for the input that the model is made for; the proof is run on a small one, which is enough
for it and spares an hour. A model takes seconds to a minute; each is kept in the folder --work, so
that a run that was ended goes on.
"""

import argparse
import gc
import json
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from harness import publish

import tfprune
from tfprune.storage.files import write_atomic
from tfprune.structure.select.cost_meter import Meter

SEED = 0
SMALL = 80
# The first Dense layer of VGG and the cropping of NASNet need the input they were made for.
OWN_INPUT = {"VGG16": 224, "VGG19": 224, "NASNetMobile": 224, "NASNetLarge": 331}
OPEN_INPUT = ("MobileNetV3Large", "MobileNetV3Small")


def names() -> list[str]:
    """Return the names of all models of keras.applications."""
    return sorted(name for name in dir(keras.applications) if name[0].isupper())


def build(name: str, side: int | None = None) -> Any:
    """Return a model with random weights, for its own input or a square one."""
    options = {} if side is None else {"input_shape": (side, side, 3)}
    return getattr(keras.applications, name)(weights=None, **options)


def multiplications(name: str) -> tuple[int, int]:
    """Return the multiply-accumulates before and after, at the model's own input."""
    shape = (224, 224, 3) if name in OPEN_INPUT else None
    found = tfprune.units(build(name), input_shape=shape)
    meter = Meter(found)
    gone = [group.units[round(len(group.units) / 2) :] for group in found]
    kept_mask = found.kept_mask(np.concatenate(gone))
    return round(meter.macs(meter.everything)), round(meter.macs(kept_mask))


def round_trip(model: Any, folder: Path) -> float:
    """Return how far a model's output is from that of its file, loaded by plain Keras."""
    path = folder / "small.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    image = np.random.default_rng(SEED).uniform(size=(1, *model.input_shape[1:]))
    apart = np.abs(np.asarray(loaded(image)) - np.asarray(model(image)))
    return float(apart.max())


def measure(name: str) -> dict[str, Any]:
    """Return what half of a model is."""
    before, after = multiplications(name)
    keras.backend.clear_session()
    gc.collect()
    keras.utils.set_random_seed(SEED)
    model = build(name, OWN_INPUT.get(name, SMALL))
    small, report = tfprune.shrink(
        model, {"channels": 0.5}, ranking="uniform", round_to=1, importance="l1"
    )
    del model
    gc.collect()
    with tempfile.TemporaryDirectory() as folder:
        apart = round_trip(small, Path(folder))
    return {
        "groups": len(report.groups),
        "frozen_layers": len(report.frozen),
        "params_before": report.before.params,
        "params_after": report.after.params,
        "macs_before": before,
        "macs_after": after,
        "error": report.error,
        "exact": report.exact,
        "inexact_because": sorted({reason.split(": ")[1] for reason in report.reasons}),
        "inexact_groups": sum(not change.exact for change in report.groups),
        "round_trip": apart,
    }


def row(name: str, cell: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    exact = "yes"
    if not cell["exact"]:
        exact = f"{cell['inexact_groups']} groups not: LayerNormalization"
    return [
        name,
        f"{cell['params_before']:,} → {cell['params_after']:,}",
        f"{cell['params_after'] / cell['params_before']:.1%}",
        f"{cell['macs_before'] / 1e9:.3f} → {cell['macs_after'] / 1e9:.3f}",
        f"{cell['macs_before'] / cell['macs_after']:.2f}×",
        f"{cell['error']:.0e}",
        exact,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/applications"))
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    cells: dict[str, Any] = {}
    for name in names():
        path = work / f"{name}.json"
        if not path.exists():
            write_atomic(path, json.dumps(measure(name)))
            keras.backend.clear_session()
            gc.collect()
        cells[name] = json.loads(path.read_text())
    worst = max(cell["round_trip"] for cell in cells.values())
    publish(
        "applications",
        title="All forty models of keras.applications at half their width",
        columns=["model", "parameters", "share", "GMACs", "fewer", "error", "exact"],
        rows=[row(name, cell) for name, cell in cells.items()],
        numbers=cells,
        seeds=[SEED],
        remarks=[
            '`shrink(model, {"channels": 0.5}, ranking="uniform", round_to=1)`, random weights. '
            "Every layer that makes channels is cut, but for the one that makes the classes.",
            "GMACs are those of the model's own input (MobileNetV3, which has none: 224 × 224). "
            "The error is the largest difference from the original whose removed units are "
            "silenced, as a share of the output's largest number, with random statistics in every "
            f"BatchNormalization, on inputs of {SMALL} × {SMALL} (VGG, NASNet: their own).",
            "Where LayerNormalization takes its statistics over channels that are cut, what stays "
            "gets other statistics: the cut is proven with them, but the model is not the silenced "
            "original.",
            f"Every small model was saved as `.keras` and loaded by plain Keras: the outputs "
            f"differ by at most {worst:.0e}.",
        ],
    )


if __name__ == "__main__":
    main()
