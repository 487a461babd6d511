"""Checks of the operations and weights of a converted file."""

import re
from collections import Counter
from collections.abc import Collection, Iterator

from tfprune.errors import ConversionError
from tfprune.runtime.flatbuffer import FLOAT_DTYPES, Contents, Op, Subgraph, Tensor
from tfprune.runtime.schemes import SCHEMES
from tfprune.runtime.sparse_ready import readiness

# Operations that do not compute with the numbers of their input: they change its type, at the
# borders of an integer file, or read its sizes.
_NOT_ARITHMETIC = frozenset({"QUANTIZE", "DEQUANTIZE", "CAST", "SHAPE"})
# Whatever the ranges, the runtime computes these in float only.
_FLOAT_ONLY = frozenset({
    "CEIL", "COS", "ELU", "FLOOR", "NEG", "ROUND", "SIN", "SQUARE", "UNSORTED_SEGMENT_SUM",
})  # fmt: skip
_VARIABLES = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})


def check_operations(
    contents: Contents, name: str, allowed: Collection[str], layers: Collection[str] = ()
) -> list[str]:
    """Check the operations and weights of a file, and return notes about them.

    In an integer plan, the operations that are in `allowed`, and all of the `layers` named, may
    stay float.

    Raises:
        ConversionError: The default runtime cannot run an operation, weights are not frozen, an
            operation stayed float without permission, or nothing is sparse in a sparse file.
    """
    plan = SCHEMES[name]
    notes: list[str] = []
    custom = sorted({op.name for op in contents.ops() if op.custom})
    if custom:
        raise ConversionError(
            f"the {name} file has operations that the default runtime cannot run: "
            f"{', '.join(custom)}; replace their layers"
        )
    kept = sorted({op.name for op in contents.ops()} & _VARIABLES)
    if kept:
        raise ConversionError(
            f"the {name} file keeps variables ({', '.join(kept)}): its weights are not "
            "frozen or the model changes its own state; remove stateful layers (stateful=True)"
        )
    if plan.sparse:
        notes.extend(_sparsity(contents, name))
    if (plan.quantize or plan.weight_bits is not None) and not layers:
        notes.extend(_unquantized(contents))
    if not plan.needs_calibration:
        return notes
    left = float_operations(contents, layers)
    if layers:
        notes.append(f"as in training, these compute in floats: {', '.join(layers)}")
    refused = sorted(set(left).difference(allowed))
    if refused:
        never = [op for op in refused if op in _FLOAT_ONLY]
        why = f": the runtime has no integer kernel for {', '.join(never)}" if never else ""
        raise ConversionError(
            f"{', '.join(refused)} stayed float in the {name} file{why}; "
            f"allow it with allow_float={refused}, or use scheme 'dynamic'"
        )
    return notes + [f"{op} stays float ({count} times), as allowed" for op, count in left.items()]


def _sparsity(contents: Contents, name: str) -> Iterator[str]:
    """Yield how much is stored sparse and whether it will be faster; raise when nothing is."""
    weights = _float_weights(contents)
    sparse = sum(tensor.sparse for tensor in weights)
    if not sparse:
        raise ConversionError(
            f"no weight has enough zeros to be stored sparse in a {name} file; prune the model "
            "first, or use scheme 'float32' or 'float16'"
        )
    yield f"{sparse} of {len(weights)} weights are stored sparse"
    yield readiness(contents).verdict


def _unquantized(contents: Contents) -> Iterator[str]:
    sizes = [tensor.elements for tensor in _float_weights(contents)]
    if sizes:
        yield (
            f"{len(sizes)} constants of {sum(sizes)} numbers stay float, the largest of "
            f"{max(sizes)} (the converter does not quantize small ones, under 1024)"
        )


def _float_weights(contents: Contents) -> list[Tensor]:
    return [
        tensor
        for graph in contents.subgraphs
        for tensor in graph.tensors
        if tensor.dtype in FLOAT_DTYPES and len(tensor.shape) > 1 and contents.raw(tensor)
    ]


def float_operations(contents: Contents, layers: Collection[str] = ()) -> dict[str, int]:
    """Return which operations compute with floats, and how often each does.

    Args:
        contents: The file.
        layers: Names of layers whose operations are not counted.
    """
    found: Counter[str] = Counter()
    for graph in contents.subgraphs:
        for op in graph.ops:
            touched = [graph.tensors[i] for i in (*op.inputs, *op.outputs) if i != -1]
            computed = [tensor for tensor in touched if not contents.raw(tensor)]
            floats = any(t.dtype in FLOAT_DTYPES for t in computed)
            counts = floats and op.name not in _NOT_ARITHMETIC
            if counts and not _is_of(op, graph, contents, layers):
                found[op.name] += 1
    return dict(sorted(found.items()))


def _is_of(op: Op, graph: Subgraph, contents: Contents, layers: Collection[str]) -> bool:
    """Return whether the names of an operation's outputs and constants have that of a layer."""
    constants = [i for i in op.inputs if i != -1 and contents.raw(graph.tensors[i])]
    names = [graph.tensors[i].name for i in (*op.outputs, *constants)]
    parts = {part for name in names for part in re.split("[;/]", name)}
    # An output of the file has its own name instead.
    alone = not constants and set(op.outputs) <= set(graph.outputs)
    return bool(layers) and (alone or not parts.isdisjoint(layers))
