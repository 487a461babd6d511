"""Results of the official `benchmark_model` program, in each of its formats.

There are two versions of the program, TensorFlow Lite's and LiteRT's. Both print text, and both can
write a result file: a protocol buffer, simple enough to be parsed here without a library.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tfprune.errors import DeviceError

# Fields of `BenchmarkResult.latency_metrics`, and the number of runs in its `misc_metrics`.
_LATENCY, _MISC = 2, 4
_AVERAGE_MS, _MEDIAN_MS = 1, 5
_RUNS = 2

_CLASSIC = re.compile(r"Inference timings in us: .*Inference \(avg\): ([\d.e+]+)")
_LITERT = re.compile(r"Inference \(avg\):\s+([\d.]+) ms \((\d+) runs\)")
_COUNTS = re.compile(r"count=(\d+) ")


@dataclass(frozen=True)
class ToolResult:
    """One run of the program: the time of a call and how many calls there were."""

    ms: float
    calls: int


def read_result(data: bytes) -> ToolResult:
    """Parse a result file: the median if it has one, else the mean.

    Raises:
        DeviceError: It is not a result file.
    """
    try:
        parts = dict(_fields(data))
        latency = dict(_fields(parts[_LATENCY]))
        misc = dict(_fields(parts.get(_MISC, b"")))
        (ms,) = struct.unpack("<f", latency.get(_MEDIAN_MS) or latency[_AVERAGE_MS])
        return ToolResult(ms, int(misc.get(_RUNS, 1)))
    except (KeyError, IndexError, TypeError, ValueError, struct.error):
        raise DeviceError(
            "benchmark_model wrote an invalid result file; use an official build"
        ) from None


def read_text(text: str) -> ToolResult:
    """Parse the output of the program: the mean.

    Raises:
        DeviceError: It contains no result.
    """
    found = _LITERT.search(text)
    if found:
        return ToolResult(float(found.group(1)), int(found.group(2)))
    found = _CLASSIC.search(text)
    if not found:
        raise DeviceError(f"benchmark_model printed no result: {last_line(text)}")
    # The first count is of the warm-up.
    counts = _COUNTS.findall(text)
    return ToolResult(float(found.group(1)) / 1e3, int(counts[-1]) if counts else 1)


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "no output")


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of a protocol buffer: their numbers and contents, varints as integers.

    See https://protobuf.dev/programming-guides/encoding/.
    """
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while position < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            yield number, varint()  # type: ignore[misc]
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"wire type {kind}")
        size = {1: 8, 5: 4}.get(kind) or varint()
        if position + size > len(data):
            raise ValueError("cut short")
        yield number, data[position : position + size]
        position += size
