"""What a file costs in memory while it runs."""

import platform
from collections.abc import Mapping, Sequence

from tfprune.measure.devices.timing_client import ask
from tfprune.measure.devices.timing_jobs import weigh_file
from tfprune.measure.sources import Source, name_of, staged


def peak_bytes(
    source: Source,
    *,
    name: str | None = None,
    threads: int = 1,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> int | None:
    """Return what loading a file and running it once adds to a fresh process at its peak.

    It is the growth of the resident set, weights and working memory together.

    Args:
        source: An artifact, or the path or the bytes of a `.tflite` file.
        name: What errors call it; by default its file name.
        threads: Threads of the runtime.
        input_shapes: Shapes by input name, for files that leave more than the batch free.

    Returns:
        Bytes; None where the system does not tell it (all but Linux).

    Raises:
        ArtifactError: The file is missing, no `.tflite`, or the runtime cannot run it.
    """
    if platform.system() != "Linux":
        return None
    with staged([source]) as files:
        answers = ask(
            weigh_file, files, names=[name or name_of(source)], threads=threads, shapes=input_shapes
        )
        return next(answer["peak_bytes"] for answer in answers if "peak_bytes" in answer)
