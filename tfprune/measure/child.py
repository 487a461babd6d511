"""Run the worker in a process of its own, and turn its end into data or one clear error."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tfprune.errors import ArtefactError, OptionError

STALL_S = 120.0


def ask(
    task: str,
    files: Sequence[Path],
    *,
    names: Sequence[str],
    threads: int = 1,
    schedule: Sequence[int] = (),
    shapes: Mapping[str, Sequence[int]] | None = None,
    stall_s: float = STALL_S,
) -> Iterator[dict[str, Any]]:
    """Give the worker a task and yield its answers as they come.

    Args:
        task: `time` or `peak`.
        files: The files to load.
        names: What error messages call them.
        threads: Threads of the runtime.
        schedule: Indexes into `files`, one for each sample to take.
        shapes: Shapes for inputs that leave them free.
        stall_s: Without an answer for so long, the worker is ended.

    Raises:
        ArtefactError: The runtime refuses a file, crashes on it, or does not come to an end.
    """
    job = {
        "task": task,
        "files": [str(file) for file in files],
        "threads": threads,
        "schedule": list(schedule),
        "shapes": {name: list(map(int, shape)) for name, shape in (shapes or {}).items()},
    }
    with (
        tempfile.TemporaryDirectory(prefix="tfprune-") as folder,
        tempfile.TemporaryFile() as errors,
    ):
        job_file = Path(folder, "job.json")
        job_file.write_text(json.dumps(job))
        package_folder = str(Path(__file__).resolve().parents[2])
        paths = [package_folder, *filter(None, [os.environ.get("PYTHONPATH")])]
        process = subprocess.Popen(
            # -P: a module in the current folder must not stand in for one of ours.
            [sys.executable, "-P", "-m", "tfprune.measure.worker", str(job_file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        try:
            yield from _answers(process, names, stall_s, errors)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _answers(
    process: subprocess.Popen[bytes], names: Sequence[str], stall_s: float, errors: IO[bytes]
) -> Iterator[dict[str, Any]]:
    lines: queue.Queue[bytes] = queue.Queue()
    stream = process.stdout
    assert stream is not None

    def read() -> None:
        for line in iter(stream.readline, b""):
            lines.put(line)
        lines.put(b"")

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    name, doing = names[0], "starting"
    while True:
        try:
            line = lines.get(timeout=stall_s)
        except queue.Empty:
            raise ArtefactError(
                f"{name}: the runtime gave no sign of life for {stall_s:g} s while {doing} it; "
                "the file is damaged or the machine is overloaded"
            ) from None
        if not line:
            reader.join()
            raise ArtefactError(f"{name}: {_death(process.wait(), doing, errors)}")
        answer = json.loads(line)
        if "file" in answer:
            name = names[answer["file"]]
        if "option" in answer:
            raise OptionError(f"{name}: {answer['error']}")
        if "error" in answer:
            raise ArtefactError(f"{name}: the runtime refuses the file: {answer['error']}")
        if "stage" in answer:
            doing = {"load": "loading", "run": "running"}[answer["stage"]]
        if "done" in answer:
            reader.join()
            return
        yield answer


def _death(code: int, doing: str, errors: IO[bytes]) -> str:
    """Say how the worker ended, with the last line that it complained in."""
    errors.seek(0)
    complaints = [line.strip() for line in errors.read().decode(errors="replace").splitlines()]
    last = next((line for line in reversed(complaints) if line), "")
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    return (
        f"the runtime's process ended {how} while {doing} it"
        + (f" ({last})" if last else "")
        + "; convert the model with another scheme or a static batch"
    )
