"""What the child process does: one job after the other (`python -m tfprune.workers.main KIND`).

It reads jobs from its standard input and writes their answers to what was its standard output, in
the lines that `pool` describes; whatever a library prints goes to the standard error.
"""

import importlib
import inspect
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tfprune.workers.process import ignore_signals, limit_memory

_IDLE_S = 60.0
# A damaged file may ask for any amount of memory. Phones have less than this.
_RUNTIME_MEMORY_BYTES = 12 << 30


def main() -> None:
    """Answer jobs until the input ends or nothing has come for a minute."""
    ignore_signals()
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1] == "runtime":
        limit_memory(_RUNTIME_MEMORY_BYTES)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    while True:
        try:
            request = requests.get(timeout=_IDLE_S)
        except queue.Empty:
            os._exit(0)
        for line in _lines(**json.loads(request)):
            lines.write(line + "\n")
            lines.flush()


def _lines(job: str, arguments: list[Any]) -> Iterator[str]:
    """Do a job and yield the lines that tell of it."""
    try:
        module, _, function = job.partition(":")
        found = getattr(importlib.import_module(module), function)(*arguments)
        for answer in found if inspect.isgenerator(found) else [found]:
            yield json.dumps({"answer": answer})
    except Exception as error:  # noqa: BLE001 - the entry of the process: the parent decides
        yield json.dumps({"error": type(error).__name__, "text": " ".join(str(error).split())})
    else:
        yield json.dumps({"done": True})


def _read_requests(requests: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        requests.put(line)
    # The parent is gone; a job under way has nobody to answer.
    os._exit(0)


if __name__ == "__main__":
    main()
