"""Damaged copies of a file, the same ones on every run."""

from collections.abc import Iterator

import numpy as np


def mutations(data: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Give `count` copies: bytes changed, cut short, doubled, zeroed, numbers made extreme."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        copy = bytearray(data)
        kind = i % 5
        if kind == 0:
            for position in rng.integers(0, len(copy), rng.integers(1, 8)):
                copy[position] = rng.integers(0, 256)
        elif kind == 1:
            del copy[rng.integers(1, len(copy)) :]
        elif kind == 2:
            start = int(rng.integers(0, len(copy)))
            copy[start:start] = copy[start : start + int(rng.integers(1, 64))]
        elif kind == 3:
            start = int(rng.integers(8, len(copy)))
            end = min(len(copy), start + int(rng.integers(1, 32)))
            copy[start:end] = bytes(end - start)
        else:
            start = 4 * int(rng.integers(2, len(copy) // 4))
            extreme = (0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x10000)[rng.integers(4)]
            copy[start : start + 4] = int(extreme).to_bytes(4, "little")
        yield bytes(copy)
