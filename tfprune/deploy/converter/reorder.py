"""The inputs and outputs of a file put in the order of the Keras model."""

from collections.abc import Sequence

import numpy as np

from tfprune.runtime.flatbuffer import Reader


def reorder(data: bytes, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Return the file with inputs and outputs in this order; the converter sorts them by name.

    Only the two index lists of the first graph and the two lists of its signature change; the
    length of the file stays the same.

    Args:
        data: A `.tflite` file with a signature.
        inputs: The names of all inputs.
        outputs: The names of all outputs.

    Raises:
        ValueError: The file has other names.
    """
    edited = bytearray(data)
    reader = Reader(data)
    root = reader.follow(0)
    graph, signature = reader.tables(root, 2)[0], reader.tables(root, 7)[0]
    for field, names in ((0, inputs), (1, outputs)):
        entries = reader.tables(signature, field)
        by_name = {reader.string(entry, 0): entry for entry in entries}
        if sorted(by_name) != sorted(names):
            raise ValueError(f"the file has {sorted(by_name)}, the model {sorted(names)}")
        ordered = [by_name[name] for name in names]
        maps = reader.span(signature, field, 4)
        indices = reader.span(graph, field + 1, 4)
        if maps is None or indices is None:
            continue
        # An entry is stored as its distance from the reference to it.
        distances = [entry - (maps.start + 4 * i) for i, entry in enumerate(ordered)]
        if min(distances) < 0:
            raise ValueError("a list of the signature follows its entries")
        edited[maps.start : maps.start + maps.size] = np.array(distances, "<u4").tobytes()
        tensors = [reader.scalar(entry, 1, "I") for entry in ordered]
        if sorted(tensors) == sorted(reader.integers(graph, field + 1)):
            edited[indices.start : indices.start + indices.size] = np.array(
                tensors, "<i4"
            ).tobytes()
    return bytes(edited)
