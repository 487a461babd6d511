"""LiteRT's interpreter: creating it, and a test run of a file."""

from typing import Any

import numpy as np


def open_interpreter(
    data: bytes, threads: int = 1, *, preserve_all: bool = False, allocate: bool = True
) -> Any:
    """Return a LiteRT interpreter.

    This may crash the process on a bad file: `Runner` and `ensure_loadable` use a child first.

    Args:
        data: The file.
        threads: Threads of kernels that can use several.
        preserve_all: Keep the values of all intermediate tensors.
        allocate: Allocate its tensors. A file with open sizes other than the batch may not allow
            that before they are set.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=data,
        num_threads=threads,
        experimental_preserve_all_tensors=preserve_all,
        # With `preserve`, the default resolver warns and falls back to this one.
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        if preserve_all
        else OpResolverType.AUTO,
    )
    if allocate:
        interpreter.allocate_tensors()
    # A name that is not UTF-8 is a ValueError here, and not in the middle of a run.
    interpreter.get_input_details()
    interpreter.get_output_details()
    return interpreter


def load(path: str) -> None:
    """Load a file, and run it once on zeros if its shapes are known."""

    with open(path, "rb") as file:
        interpreter = open_interpreter(file.read(), allocate=False)
    details = interpreter.get_input_details()
    try:
        interpreter.allocate_tensors()
        for detail in details:
            if detail["dtype"] is np.bytes_:
                return
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError):
        # With open sizes, a failure on zeros of size 1 means nothing.
        if all(-1 not in detail["shape_signature"][1:] for detail in details):
            raise
