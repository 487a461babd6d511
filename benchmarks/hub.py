"""KerasHub's backbones from small configs: how much of each can be removed, and the proof of it.

It needs the extra `hub`. Nothing is downloaded: weights are random. Half of every group goes, and
what is left must be the original with the removed units silenced. A backbone takes some seconds;
each is kept in the folder --work, so that a run that was ended goes on.
"""

import argparse
import json
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
from harness import publish
from hub_configs import BACKBONES
from keras import tree

import tfprune
from tfprune.storage.files import write_atomic
from tfprune.structure.ids.ids import HEADS

SEED = 0
LENGTH, AUDIO, IMAGE = 16, 1600, 64
"""What stands for open sizes: of tokens or frames, of samples of sound, of the side of images."""


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Return the shape of an input without the batch, open sizes filled in."""
    shape = tuple(tensor.shape[1:])
    side = IMAGE if len(shape) >= 3 else AUDIO if shape and shape[-1] == 1 else LENGTH
    return tuple(side if size is None else size for size in shape)


def input_shape(model: Any) -> Any:
    """Return the shapes of a model's inputs, or None where none is open."""
    struct = model._inputs_struct
    if all(None not in tensor.shape[1:] for tensor in tree.flatten(struct)):
        return None
    return tree.map_structure(shape_of, struct)


def first_line(error: BaseException) -> str:
    """Return the class of an error and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:240]}"


def measure(name: str) -> dict[str, Any]:
    """Return what can be removed from a backbone, and how far half of it is from its original."""
    keras.utils.set_random_seed(SEED)
    model = BACKBONES[name](keras_hub)
    shape = input_shape(model)
    found = tfprune.units(model, input_shape=shape)
    cell: dict[str, Any] = {
        "params": model.count_params(),
        "groups": len(found),
        "heads": sum(group.kind == HEADS for group in found),
        "unrolled": len(found.graph.traced),
        "whole": [note for note in found.graph.notes if "kept whole" in note],
        "share": None if np.isnan(found.prunable_share) else found.prunable_share,
        "frozen": [f"{line.layer}: {line.reason}" for line in found.frozen],
    }
    try:
        small, report = tfprune.shrink(
            model, {"channels": 0.5}, ranking="uniform", round_to=1, input_shape=shape
        )
        cell |= {
            "params_after": report.after.params,
            "error": report.error,
            "exact": report.exact,
            "loads": loads(small),
        }
    except Exception as error:  # noqa: BLE001 — whatever it is, it is a line of the table
        cell["refused"] = first_line(error)
    return cell


def loads(small: Any) -> str | None:
    """Return why the file of a small model cannot be loaded; None if it can."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.keras"
        try:
            small.save(path)
            keras.models.load_model(path)
        except Exception as error:  # noqa: BLE001 — whatever it is, it is a line of the table
            return first_line(error)
    return None


def row(name: str, cell: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    if "not_built" in cell:
        return [name, *["–"] * 5, f"not built: {cell['not_built']}"]
    kind = f"{cell['unrolled']} layers unrolled" if cell["unrolled"] else "functional"
    if cell["whole"]:
        kind += f", {len(cell['whole'])} whole"
    share = "–" if cell["share"] is None else f"{cell['share']:.0%}"
    if "refused" in cell:
        left, remark = ["–", "–"], f"refused: {cell['refused']}"
    else:
        left = [f"{cell['params_after'] / cell['params']:.0%}", f"{cell['error']:.0e}"]
        remark = "" if cell["exact"] else "statistics over channels change"
        if cell["loads"]:
            remark = f"its file cannot be loaded: {cell['loads']}"
    groups = f"{cell['groups']} ({cell['heads']} of heads)"
    return [name, kind, groups, share, *left, remark or why_whole(cell)]


def why_whole(cell: dict[str, Any]) -> str:
    """Return the first reason why a layer is kept whole."""
    return cell["whole"][0].partition("kept whole: ")[2] if cell["whole"] else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/hub"))
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    # Keras and KerasHub warn about masks and retracing here; what matters is in the table.
    warnings.simplefilter("ignore")
    cells: dict[str, Any] = {}
    for name in BACKBONES:
        path = work / f"{name}.json"
        if not path.exists():
            try:
                cell = measure(name)
            except Exception as error:  # noqa: BLE001 — whatever it is, it is a line of the table
                cell = {"not_built": first_line(error)}
            write_atomic(path, json.dumps(cell, default=float))
            keras.backend.clear_session()
        cells[name] = json.loads(path.read_text())
    proven = [cell for cell in cells.values() if "error" in cell]
    heads = sum(bool(cell.get("heads")) for cell in proven)
    publish(
        "hub",
        title="KerasHub's backbones, half of every group removed",
        columns=["backbone", "how it is read", "groups", "MACs within reach", "parameters left",
                 "error", "remark"],
        rows=[row(name, cell) for name, cell in cells.items()],
        numbers=cells,
        seeds=[SEED],
        remarks=[
            f"{len(proven)} of {len(cells)} backbones are cut and proven, {heads} of them with "
            f"attention heads. KerasHub {version('keras-hub')}, small configs (see "
            "benchmarks/hub_configs.py), random weights, nothing downloaded.",
            "The error is the largest difference from the original whose removed units are "
            "silenced, as a share of the output's largest number. What is unrolled was also "
            "compared with the backbone itself. Backbones end in the features themselves, so the "
            "width of the residual stream stays: it is an output.",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
