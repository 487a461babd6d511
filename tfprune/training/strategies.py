"""Training on several devices or workers, with what TensorFlow calls a strategy."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfprune.errors import OptionError

_EXAMPLE = (
    '{"cluster": {"worker": ["one:2222", "two:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def make_strategy(name: str | None) -> Any:
    """Return a strategy of TensorFlow; None for one device.

    `mirrored` trains on all GPUs of this machine, or where there are none, on its logical CPUs;
    `multi_worker` on the workers that the variable TF_CONFIG lists.

    Raises:
        OptionError: There is only one device or worker, or TensorFlow has been used before.
    """
    if name is None:
        return None
    if name == "multi_worker":
        place_in_cluster()
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except RuntimeError as error:
            raise OptionError(
                f"[train] strategy: TensorFlow has been used in this process: {error}. Start the "
                "run first, or with the command tfprune run."
            ) from None
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:
        raise OptionError(
            f"[train] strategy: {name} needs several devices; this machine has one, "
            f"{devices[0].name}. Leave it out."
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def place_in_cluster() -> tuple[int, int]:
    """Return the number of this worker, and of all, from TF_CONFIG.

    Raises:
        OptionError: It is missing, or does not list this worker and another.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        found = json.loads(text)
        cluster, task = found["cluster"], found["task"]
        workers = [*cluster.get("chief", []), *cluster["worker"]]
        here = cluster[task["type"]][int(task["index"])]
        number = workers.index(here)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise OptionError(
            "[train] strategy: multi_worker needs the variable TF_CONFIG, such as "
            f"{_EXAMPLE}, with another index for each worker. Received {text[:200] or 'nothing'}"
        ) from None
    if len(workers) < 2:
        raise OptionError(
            f"[train] strategy: TF_CONFIG lists one worker, {here}. List them all, or leave "
            "strategy out."
        )
    return number, len(workers)


def copy_run(source: Path, place: Path) -> None:
    """Copy a run folder that the first worker may be writing to."""
    while True:
        try:
            shutil.copytree(source, place, dirs_exist_ok=True)
        except (FileNotFoundError, shutil.Error):  # It has removed a file meanwhile.
            if source.exists():
                continue
        return
