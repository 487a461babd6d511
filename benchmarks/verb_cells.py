"""What each verb does with one architecture: the cells of benchmarks/verbs.py.

A cell is a dict with one of three keys: "done" (a small figure), "refused" (the one line of a
`TfpruneError`) or "fault" (any other exception, with the line it came from).
"""

import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from architectures import ARCHITECTURES, Architecture, build, random_targets, samples

import tfprune
from tfprune.errors import TfpruneError

Cell = dict[str, Any]

SEED = 0
BATCH, EPOCHS = 8, 2
SPARSITY = 0.8
LARGE = "applications"
ANY = 1e9


class WrongError(Exception):
    """A verb ended well and what it returned is wrong."""


def cells_of(keys: Sequence[tuple[str, str]]) -> Iterator[Cell]:
    """Yield cells, by the names of architecture and verb, each on a model of its own."""
    for name, verb in keys:
        start = time.perf_counter()
        cell = {"name": name, "verb": verb, **outcome(ARCHITECTURES[name], VERBS[verb])}
        yield {**cell, "seconds": round(time.perf_counter() - start, 1)}
        keras.backend.clear_session()


def outcome(one: Architecture, verb: Callable[[Architecture], str]) -> dict[str, str]:
    """Return what becomes of an architecture under a verb."""
    try:
        return {"done": verb(one)}
    except TfpruneError as error:
        return {"refused": " ".join(str(error).split())}
    except Exception as error:  # noqa: BLE001 — whatever it is, it is a cell of the table
        return {"fault": fault_of(error)}


def fault_of(error: Exception) -> str:
    """Return the type and first lines of an exception, and the last line of tfprune's it passed."""
    steps = traceback.extract_tb(error.__traceback__)
    ours = [step for step in steps if "/tfprune/" in step.filename] or list(steps)
    file = "/".join(Path(ours[-1].filename).parts[-2:])
    text = " ".join(str(error).split())[:400]
    return f"{type(error).__name__} at {file}:{ours[-1].lineno}: {text}"


def check(right: object, what: str) -> None:
    """Raise if what a verb returned is wrong."""
    if not right:
        raise WrongError(what)


def shapes_of(structure: Any) -> list[tuple[int, ...]]:
    """Return the shapes of the arrays in a structure."""
    return [tuple(leaf.shape) for leaf in keras.tree.flatten(structure)]


def count(one: Architecture) -> int:
    """Return how many samples a model trains on, is calibrated with and is compared on."""
    return 16 if one.domain == LARGE else 24


def fit(one: Architecture, model: keras.Model, x: Any, callbacks: Sequence[Any] = ()) -> None:
    """Train a model for a few steps towards random numbers.

    XLA would compile longer than that; and the graph of a large network takes half a minute.
    """
    targets = random_targets(model, x, SEED)
    loss = keras.tree.map_structure(lambda _: "mse", targets)
    large = one.domain == LARGE
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False, run_eagerly=large)
    model.fit(x, targets, epochs=EPOCHS, batch_size=BATCH, verbose=0, callbacks=list(callbacks))


def input_shape(one: Architecture, model: keras.Model) -> Any:
    """Return the shapes of the inputs, if the model leaves a size open; else None."""
    sizes = [size for tensor in getattr(model, "inputs", None) or () for size in tensor.shape[1:]]
    if None not in sizes:
        return None
    return keras.tree.map_structure(lambda leaf: leaf.shape, one.takes)


def units(one: Architecture) -> str:
    """Find what could be removed."""
    model = build(one, SEED)
    found = tfprune.units(model, input_shape=input_shape(one, model))
    share = found.prunable_share
    return f"{len(found)} groups, {share:.0%}" if np.isfinite(share) else f"{len(found)} groups"


def can_be_saved(model: keras.Model, folder: Path) -> bool:
    """Return whether a model itself can be saved: all its parts have a config."""
    try:
        model.save(folder / "model.keras")
    except NotImplementedError:
        return False
    return True


def half(one: Architecture) -> str:
    """Shrink to half of the multiply-accumulates, and run and save what is left."""
    model = build(one, SEED)
    small, report = tfprune.shrink(
        model, {"macs": 0.5}, round_to=1, input_shape=input_shape(one, model)
    )
    x = samples(one, 2)
    expected, got = shapes_of(model(x, training=False)), shapes_of(small(x, training=False))
    check(got == expected, f"outputs of shapes {got}, not {expected}")
    with tempfile.TemporaryDirectory() as folder:
        if can_be_saved(model, Path(folder)):
            small.save(Path(folder) / "small.keras")
    return f"{report.after.macs / report.before.macs:.0%} left, {report.error:.0e}"


def pruned(one: Architecture) -> str:
    """Prune while the model trains, and count the zeros after stripping and training on."""
    model, x = build(one, SEED), samples(one, count(one))
    steps = EPOCHS * count(one) // BATCH
    schedule = tfprune.PolynomialDecay(0.0, SPARSITY, begin_step=0, end_step=steps - 2, frequency=1)
    model = tfprune.prune(model, SPARSITY, schedule=schedule)
    fit(one, model, x, [tfprune.UpdatePruningStep()])
    held = [row for row in tfprune.sparsity_of(model) if row.held]
    model = tfprune.strip_pruning(model)
    after = tfprune.sparsity_of(model)
    for row in held:
        zeros, wanted = after[row.path].zeros, int(SPARSITY * row.size)
        check(zeros >= wanted, f"{row.path}: {zeros} zeros of {row.size}, not {wanted}")
    check(held, "no kernel was pruned")
    weights = sum(row.size for row in held)
    return f"{len(held)} kernels, {weights / model.count_params():.0%} of weights"


def trained_int8(one: Architecture) -> str:
    """Train under the rounding of an int8 file, and write that file."""
    x = samples(one, count(one))
    aware = tfprune.quantize_aware(build(one, SEED))
    fit(one, aware, x)
    return written(one, lambda **ways: tfprune.to_tflite(aware, scheme="int8", **ways))


def file_of(scheme: str) -> Callable[[Architecture], str]:
    """Return the verb that writes a file of a scheme."""

    def write(one: Architecture) -> str:
        model, x = build(one, SEED), samples(one, count(one))
        return written(
            one,
            lambda **ways: tfprune.to_tflite(model, scheme=scheme, calibration=x, **ways),
        )

    return write


def onnx(one: Architecture) -> str:
    """Write an ONNX file."""
    model, x = build(one, SEED), samples(one, count(one))
    return written(one, lambda **ways: tfprune.to_onnx(model, calibration=x, **ways))


def written(one: Architecture, write: Callable[..., tfprune.Artifact]) -> str:
    """Write a file and return how far it is from its model.

    Where the refusal asks for a size of the input or of the batch, or for the mean of random
    numbers, it is given; and where rounding alone makes the difference, since the model multiplies
    small ones, any difference is accepted.
    """
    ways: dict[str, Any] = {}
    while True:
        try:
            return ", ".join([of_file(write(**ways)), *(f"{way}=" for way in ways)])
        except TfpruneError as error:
            more = {
                "input_shape": keras.tree.map_structure(lambda leaf: leaf.shape, one.takes),
                "batch": BATCH,
                "random": "mean",
                **({"bound": ANY} if "noise of half a step" in str(error) else {}),
            }
            asked = [way for way in more if f"{way}=" in str(error) and way not in ways]
            if not asked:
                raise
            ways[asked[0]] = more[asked[0]]


def of_file(artifact: tfprune.Artifact) -> str:
    """Return how far a file is from its model, as a share of the spread of the output."""
    worst = max(artifact.report.parity, key=lambda one: one.rms_error / (one.spread or 1.0))
    share = worst.rms_error / worst.spread if worst.spread else worst.rms_error
    return f"{share:.0e}, {min(one.agreement for one in artifact.report.parity):.0%}"


VERBS: dict[str, Callable[[Architecture], str]] = {
    "units": units,
    "shrink": half,
    "prune": pruned,
    "quantize_aware": trained_int8,
    "float32": file_of("float32"),
    "dynamic": file_of("dynamic"),
    "int8": file_of("int8"),
    "ONNX": onnx,
}
