"""What the child process does: one job after the other (`python -m tfprune.workers.main KIND`).

It reads one JSON object a line from its standard input and writes one a line to what was its
standard output; whatever a library prints goes to the standard error.
"""

import importlib
import json
import os
import queue
import sys
import threading

from tfprune.workers.process import ignore_signals, limit_memory

_IDLE_S = 60.0
# A damaged file may ask for any amount of memory. Phones have less than this.
_RUNTIME_MEMORY_BYTES = 12 << 30


def main() -> None:
    """Answer jobs until the input ends or nothing has come for a minute."""
    ignore_signals()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1] == "runtime":
        limit_memory(_RUNTIME_MEMORY_BYTES)
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    while True:
        try:
            request = json.loads(jobs.get(timeout=_IDLE_S))
        except queue.Empty:
            os._exit(0)
        try:
            module, _, function = request["job"].partition(":")
            job = getattr(importlib.import_module(module), function)
            reply = {"result": job(*request["arguments"])}
        except Exception as error:  # noqa: BLE001 - the entry of the process: the parent decides
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _read_jobs(jobs: "queue.Queue[str]") -> None:
    for line in sys.stdin:
        jobs.put(line)
    # The parent is gone; a job under way has nobody to answer.
    os._exit(0)


if __name__ == "__main__":
    main()
