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

from tfprune.errors import ArtefactError, DeviceError, OptionError

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
        task: `time`, `peak` or `profile`.
        files: The files to load.
        names: What error messages call them.
        threads: Threads of the runtime.
        schedule: Indexes into `files`, one for each sample to take.
        shapes: Shapes for inputs that leave them free.
        stall_s: Without an answer for so long, the worker is ended.

    Raises:
        ArtefactError: The runtime refuses a file, crashes on it, or does not come to an end.
    """
    with tempfile.TemporaryDirectory(prefix="tfprune-") as folder:
        job_file = Path(folder, "job.json")
        job_file.write_text(job_text(task, list(map(str, files)), threads, schedule, shapes))
        package_folder = str(Path(__file__).resolve().parents[2])
        paths = [package_folder, *filter(None, [os.environ.get("PYTHONPATH")])]
        yield from converse(
            # -P: a module in the current folder must not stand in for one of ours.
            [sys.executable, "-P", "-m", "tfprune.measure.worker", str(job_file)],
            names=names,
            stall_s=stall_s,
            environment={"PYTHONPATH": os.pathsep.join(paths)},
        )


def job_text(
    task: str,
    files: Sequence[str],
    threads: int,
    schedule: Sequence[int],
    shapes: Mapping[str, Sequence[int]] | None,
) -> str:
    """Return what the worker reads: a task on files, as JSON."""
    return json.dumps(
        {
            "task": task,
            "files": list(files),
            "threads": threads,
            "schedule": list(schedule),
            "shapes": {name: list(map(int, shape)) for name, shape in (shapes or {}).items()},
        }
    )


def converse(
    command: Sequence[str],
    *,
    names: Sequence[str],
    stall_s: float = STALL_S,
    environment: Mapping[str, str] | None = None,
    lost: Mapping[int, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Start a worker and yield its answers as they come; a reader who leaves ends it.

    Args:
        command: What starts it.
        names: What error messages call its files.
        stall_s: Without an answer for so long, it is ended.
        environment: Variables to set for it.
        lost: Exit codes that mean that the way to the worker broke, and what to say then.

    Raises:
        ArtefactError: The runtime refuses a file, crashes on it, or does not come to an end.
        DeviceError: The way to the worker broke.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, **(environment or {})},
        )
        stream = process.stdout
        assert stream is not None
        lines: queue.Queue[bytes] = queue.Queue()

        def read() -> None:
            for line in stream:
                lines.put(line)
            lines.put(b"")

        # A thread, since a pipe cannot be read with a time limit on every system.
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            yield from _answers(process, lines, names, stall_s, errors, lost or {})
        finally:
            process.kill()
            process.wait()
            reader.join()
            stream.close()


def _answers(
    process: subprocess.Popen[bytes],
    lines: "queue.Queue[bytes]",
    names: Sequence[str],
    stall_s: float,
    errors: IO[bytes],
    lost: Mapping[int, str],
) -> Iterator[dict[str, Any]]:
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
            code, last = process.wait(), _last_words(errors)
            if code in lost:
                raise DeviceError(f"{lost[code]} ({last or 'it said nothing'})")
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
            raise ArtefactError(
                f"{name}: the runtime's process ended {how} while {doing} it"
                + (f" ({last})" if last else "")
                + "; convert the model with another scheme or a static batch"
            )
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
            return
        yield answer


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "")
