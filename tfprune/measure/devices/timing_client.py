"""Ask a child process to time files, and turn what ends it into one clear error."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tfprune.errors import ArtifactError, DeviceError, OptionError
from tfprune.measure.devices.device import Sample
from tfprune.runtime.litert import failure
from tfprune.workers import pool


def ask(
    job: Callable[..., Iterator[dict[str, Any]]],
    files: Sequence[Path | str],
    *arguments: Any,
    names: Sequence[str],
    threads: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    stall_s: float = pool.LOAD_LIMIT_S,
    command: Sequence[str] | None = None,
    lost: Mapping[int, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the answers of a job on files as they come; a reader who leaves ends its process.

    Args:
        job: One of `timing_jobs`.
        files: The files to load, where the child finds them.
        *arguments: What else the job takes.
        names: What error messages call the files.
        threads: Threads of the runtime.
        shapes: Shapes for inputs that leave them free.
        stall_s: Seconds without an answer after which the child is ended.
        command: What starts the child, where that is on another machine.
        lost: Exit codes that mean that the way to the child broke, and what to say then.

    Raises:
        OptionError: A shape is missing, or is for an input that no file has.
        ArtifactError: The runtime refuses a file, crashes on it, or does not come to an end.
        DeviceError: The way to the child broke.
    """
    paths = list(map(str, files))
    sizes = {name: list(map(int, shape)) for name, shape in (shapes or {}).items()}
    name, stage = names[0], "starting"
    stream = pool.stream_job(
        job, paths, threads, sizes, *arguments, limit_s=stall_s, command=command
    )
    try:
        with closing(stream) as answers:
            for answer in answers:
                name = names[answer["file"]] if "file" in answer else name
                stage = answer.get("stage", stage)
                yield answer
    except pool.ChildError as error:
        if isinstance(error, pool.CrashError) and lost and error.code in lost:
            said = error.last_line or "it said nothing"
            raise DeviceError(f"{lost[error.code]} ({said})") from None
        if isinstance(error, pool.JobError) and error.kind == OptionError.__name__:
            raise OptionError(f"{name}: {error.text}") from None
        raise ArtifactError(f"{name}: {failure(error, stage)}") from None


def samples(answers: Iterator[Mapping[str, Any]]) -> Iterator[Sample]:
    """Yield the samples among the answers of `time_files`."""
    for answer in answers:
        if "sample" in answer:
            yield Sample(answer["file"], answer["sample"], answer["calls"])
