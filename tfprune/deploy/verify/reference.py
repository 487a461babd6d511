"""What a model answers on samples, and a file that was made of it."""

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.deploy.converter.calibrate import Samples, calibration_samples, random_samples
from tfprune.errors import ModelError, OptionError
from tfprune.graph.model_signature import Interface, generation
from tfprune.runtime.artifact import report_path
from tfprune.storage.files import check_destination
from tfprune.storage.scratch import scratch_folder
from tfprune.utils.versions import version_of
from tfprune.workers import pool
from tfprune.workers.arrays import load_arrays, save_arrays

_RANDOM_SAMPLES = 8
_COMPARED_SAMPLES = 32


def draw(face: Interface, data: Any, notes: list[str]) -> tuple[Samples, str]:
    """Return samples that fit a model, and where they are from: "calibration" or "random".

    Args:
        face: The model.
        data: What `calibrate.calibration_samples` takes; None draws them at random.
        notes: Told when not all of the data is used.
    """
    if data is None:
        return random_samples(face.inputs, _RANDOM_SAMPLES, face.vocabulary), "random"
    samples, total = calibration_samples(data, face.inputs)
    used = len(next(iter(samples.values())))
    if used != total:
        notes.append(f"of {total or 'more'} calibration samples {used} were used")
    return samples, "calibration"


def some(samples: Samples) -> Samples:
    """Return a few of the samples, at even distances since data is often sorted by class."""
    count = len(next(iter(samples.values())))
    index = np.linspace(0, count - 1, min(count, _COMPARED_SAMPLES)).round().astype(int)
    return {name: array[index] for name, array in samples.items()}


def answers(face: Interface, samples: Samples) -> dict[str, np.ndarray]:
    """Return a model's outputs by name, run in pieces of its batch where that is fixed."""
    step = face.inputs[0].shape[0]
    count = len(next(iter(samples.values())))
    step = count if step == -1 else step
    pieces: list[dict[str, np.ndarray]] = []
    for start in range(0, count, step):
        index = np.arange(start, start + step) % count
        outputs = face.call({name: array[index] for name, array in samples.items()})
        for name, value in outputs.items():
            if value.shape[0] != step:
                raise ModelError(
                    f"output {name!r} has shape {tuple(value.shape)} for {step} samples; give it a "
                    "first axis that counts them: a file has one"
                )
        pieces.append({name: np.asarray(value)[: count - start] for name, value in outputs.items()})
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def file_answers(
    job: Callable[..., Any], data: bytes, ending: str, samples: Samples, limit_s: float
) -> tuple[Any, Samples]:
    """Return what a job says of a file, and the arrays that it writes, from a child process.

    The job takes the paths of the file, of the samples, and of the arrays. Raises a ChildError.
    """
    with scratch_folder() as folder:
        paths = [str(Path(folder, name)) for name in (f"model{ending}", "in.npz", "out.npz")]
        Path(paths[0]).write_bytes(data)
        save_arrays(paths[1], samples)
        told = pool.run_job(job, *paths, limit_s=limit_s)
        return told, load_arrays(paths[2])


def check_path(path: str | os.PathLike[str] | None, ending: str) -> None:
    """Refuse a path that no file can be written to, or that does not say what kind of file it is.

    Two files whose names differ in nothing but such an ending would share a report.

    Raises:
        OptionError: Nothing can be written there, or it does not end as it should.
    """
    if path is None:
        return
    target = check_destination(path)
    if target.suffix != ending:
        raise OptionError(f"path: expected a name in {ending}, got {str(target)!r}")
    check_destination(report_path(target))


def versions(model: Any, packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of what a file depends on: Python, tfprune, TensorFlow, Keras, others."""
    home = "tf_keras" if generation(model) == "tf_keras" else "keras"
    return {
        "python": platform.python_version(),
        **{name: version_of(name) for name in ("tfprune", "tensorflow", home, *packages)},
    }
