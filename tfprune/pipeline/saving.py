"""Atomic saving of the models and files of a run."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import keras

from tfprune.keras_support.models import uncompiled
from tfprune.runtime.artifact import Artifact, ConversionReport, report_path
from tfprune.runtime.litert import read_file


def save_model(model: keras.Model, path: Path) -> None:
    """Save a model atomically, without its optimizer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Keras requires the ending, so the temporary name is that of a folder.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving-") as folder:
        unfinished = Path(folder) / path.name
        with uncompiled(model):
            keras.saving.save_model(model, unfinished)
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)


@contextlib.contextmanager
def saved_temporarily(model: keras.Model, beside: Path) -> Iterator[Path]:
    """Save a model to a temporary file for a `with` block."""
    with tempfile.TemporaryDirectory(dir=beside, prefix=".saving-") as folder:
        path = Path(folder) / "model.keras"
        save_model(model, path)
        yield path


def load_artifact(path: Path) -> Artifact:
    """Read a file and the report next to it."""
    return Artifact(read_file(path), path, ConversionReport.load(report_path(path)))
