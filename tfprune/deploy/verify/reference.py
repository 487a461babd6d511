"""Outputs of a model on samples, and of a file converted from it."""

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfprune.deploy.converter.calibrate import Samples, calibration_samples, random_samples
from tfprune.errors import ModelError, OptionError
from tfprune.graph.graph import Call
from tfprune.graph.model_signature import Interface, generation, unchanged_weights
from tfprune.graph.read import is_function, read
from tfprune.graph.rebuild import Run, execute, perform
from tfprune.runtime.artifact import report_path
from tfprune.storage.files import check_destination
from tfprune.storage.scratch import scratch_folder
from tfprune.utils.versions import version_of
from tfprune.workers import pool
from tfprune.workers.arrays import load_arrays, save_arrays

_RANDOM_SAMPLES = 8
# Tried one after the other: what a model reduces may have nothing left of a short sequence.
_OPEN_SIZES = (8, 32, 128, 512)
_COMPARED_SAMPLES = 32


def draw(face: Interface, data: Any, notes: list[str]) -> tuple[Samples, str]:
    """Return samples for a model, and their source: "calibration" or "random".

    Without data they are random. `notes` gets a note when not all of the data is used.
    """
    if data is None:
        return _random(face), "random"
    samples, total = calibration_samples(data, face.inputs)
    used = len(next(iter(samples.values())))
    if used != total:
        notes.append(f"{used} of {total or 'many'} calibration samples were used")
    return samples, "calibration"


def _random(face: Interface) -> Samples:
    """Return random samples, of the least size that the model takes where it leaves one open.

    Raises:
        ModelError: It takes none of those tried.
    """
    is_open = any(-1 in spec.shape[1:] for spec in face.inputs)
    for size in _OPEN_SIZES if is_open else _OPEN_SIZES[:1]:
        made = random_samples(face.inputs, _RANDOM_SAMPLES, face.vocabulary, open_size=size)
        reason = _failure(face, made) if is_open else ""
        if not reason:
            return made
    raise ModelError(
        f"model {face.model.name!r} fails on inputs whose open sizes are "
        f"{', '.join(map(str, _OPEN_SIZES))} ({reason}); give calibration= or input_shape="
    )


def _failure(face: Interface, samples: Samples) -> str:
    """Return why a model fails on samples, "" if it does not."""
    import tensorflow as tf

    try:
        model_outputs(face, samples)
    except ModelError:
        raise
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        return next(iter(str(error).strip().splitlines()), type(error).__name__)
    return _emptied(face, samples)


def _emptied(face: Interface, samples: Samples) -> str:
    """Return which window is larger than its input, "" if none is.

    Keras notices only where a layer is built; later, TensorFlow returns memory as it finds it.
    """
    if not has_graph(face.model):
        return ""
    found: list[str] = []

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        slides = hasattr(call.op, "kernel_size") or hasattr(call.op, "pool_size")
        if slides and type(call.op).__module__.startswith("keras."):
            try:
                call.op.compute_output_shape(tuple(args[0].shape))
            except ValueError as error:
                found.append(f"{call.path}: {str(error).partition('.')[0]}")
        return perform(call.op, args, kwargs)

    run_calls(face, keras.tree.flatten(face.arguments(samples)), run)
    return next(iter(found), "")


def has_graph(model: Any) -> bool:
    """Return whether a model of Keras 3 can be run call by call: it is no subclassed one."""
    return isinstance(model, keras.Model) and bool(getattr(model, "inputs", None))


def run_calls(face: Interface, inputs: list[Any], run: Run) -> Any:
    """Run a model call by call as its file does, and leave its weights as they are.

    Args:
        face: The model; models in it are opened, layers stay whole.
        inputs: Its inputs in their order.
        run: Returns the output of each call.
    """
    graph = read(face.model, lambda op: not is_function(op))
    with face.as_its_file(), unchanged_weights(face.model):
        return execute(graph, inputs, run)


def some(samples: Samples) -> Samples:
    """Return a few of the samples, evenly spaced since data is often sorted by class."""
    count = len(next(iter(samples.values())))
    index = np.linspace(0, count - 1, min(count, _COMPARED_SAMPLES)).round().astype(int)
    return {name: array[index] for name, array in samples.items()}


def model_outputs(
    face: Interface, samples: Samples, batch: int | None = None
) -> dict[str, np.ndarray]:
    """Return a model's outputs by name, run in pieces of its batch where that is fixed.

    Args:
        face: The model.
        samples: Its inputs by name.
        batch: The size of pieces, where the model leaves its batch open; None: all samples.
    """
    step = face.inputs[0].shape[0]
    count = len(next(iter(samples.values())))
    step = (batch or count) if step == -1 else step
    pieces: list[dict[str, np.ndarray]] = []
    for start in range(0, count, step):
        index = np.arange(start, start + step) % count
        outputs = face.call({name: array[index] for name, array in samples.items()})
        for name, value in outputs.items():
            if value.shape[0] != step:
                raise ModelError(
                    f"output {name!r} has shape {tuple(value.shape)} for {step} samples; its "
                    "first axis must be the batch"
                )
        pieces.append({name: np.asarray(value)[: count - start] for name, value in outputs.items()})
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def file_outputs(
    job: Callable[..., Any], data: bytes, ending: str, samples: Samples, limit_s: float
) -> tuple[Any, Samples]:
    """Run a job on a file in a child process; return its result and the arrays it writes.

    The job takes the paths of the file, of the samples, and of the arrays. Raises a ChildError.
    """
    with scratch_folder() as folder:
        paths = [str(Path(folder, name)) for name in (f"model{ending}", "in.npz", "out.npz")]
        Path(paths[0]).write_bytes(data)
        save_arrays(paths[1], samples)
        told = pool.run_job(job, *paths, limit_s=limit_s)
        return told, load_arrays(paths[2])


def check_path(path: str | os.PathLike[str] | None, ending: str) -> None:
    """Check that a path can be written and has the right ending.

    Two files whose names differ only in the ending would share a report.

    Raises:
        OptionError: It cannot be written, or has another ending.
    """
    if path is None:
        return
    target = check_destination(path)
    if target.suffix != ending:
        raise OptionError(f"path: expected a name ending in {ending}. Received {str(target)!r}")
    check_destination(report_path(target))


def versions(model: Any, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions that a file depends on: Python, tfprune, TensorFlow, Keras, others."""
    home = "tf_keras" if generation(model) == "tf_keras" else "keras"
    return {
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("tfprune", "tensorflow", home, *packages)},
    }
