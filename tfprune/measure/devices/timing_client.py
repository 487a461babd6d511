"""Run the worker in a process of its own, and turn its end into data or one clear error."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfprune.errors import ArtifactError, DeviceError, OptionError
from tfprune.storage.scratch import scratch_folder
from tfprune.workers.process import LineProcess, module_command, module_environment

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
        ArtifactError: The runtime refuses a file, crashes on it, or does not come to an end.
    """
    with scratch_folder() as folder:
        job_file = Path(folder, "job.json")
        job_file.write_text(job_text(task, list(map(str, files)), threads, schedule, shapes))
        yield from converse(
            module_command("tfprune.measure.devices.timing_jobs", str(job_file)),
            names=names,
            stall_s=stall_s,
            environment=module_environment(),
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
        ArtifactError: The runtime refuses a file, crashes on it, or does not come to an end.
        DeviceError: The way to the worker broke.
    """
    process = LineProcess(command, environment or {})
    try:
        yield from _answers(process, names, stall_s, lost or {})
    finally:
        process.end()


def _answers(
    process: LineProcess, names: Sequence[str], stall_s: float, lost: Mapping[int, str]
) -> Iterator[dict[str, Any]]:
    name, doing = names[0], "starting"
    while True:
        try:
            line = process.receive(stall_s)
        except TimeoutError:
            raise ArtifactError(
                f"{name}: the runtime gave no sign of life for {stall_s:g} s while {doing} it; "
                "the file is damaged or the machine is overloaded"
            ) from None
        if not line:
            code, last = process.code(), process.last_stderr_line()
            if code in lost:
                raise DeviceError(f"{lost[code]} ({last or 'it said nothing'})")
            how = f"{'by' if code < 0 else 'with'} {process.ending()}"
            raise ArtifactError(
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
            raise ArtifactError(f"{name}: the runtime refuses the file: {answer['error']}")
        if "stage" in answer:
            doing = {"load": "loading", "run": "running"}[answer["stage"]]
        if "done" in answer:
            return
        yield answer
