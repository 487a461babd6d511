"""Where the output of native code goes while a command works."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def native_output(path: Path = Path(os.devnull)) -> Iterator[None]:
    """Redirect what native code writes to file descriptor 2 to a file; keep Python's stderr.

    TensorFlow 2.21 and LiteRT write there whatever their log levels are, into the progress bar.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    python_stderr = sys.stderr
    kept = os.dup(2)
    try:
        with path.open("ab") as file, os.fdopen(os.dup(2), "w", buffering=1) as shown:
            os.dup2(file.fileno(), 2)
            sys.stderr = shown
            yield
    finally:
        sys.stderr = python_stderr
        os.dup2(kept, 2)
        os.close(kept)
