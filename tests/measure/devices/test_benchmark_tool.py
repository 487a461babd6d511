"""The output of the official program in each of its forms, and other output."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.errors import DeviceError
from tfprune.measure.devices.benchmark_tool import ToolResult, last_line, read_result, read_text

CLASSIC = """\
INFO: Running benchmark for at least 50 iterations and at least 1 seconds.
INFO: count=3 first=300000 curr=302000 min=300000 max=303000 avg=302814 std=1000
INFO: count=50 first=266601 curr=266931 min=265837 max=268116 avg=266473 std=419
INFO: Inference timings in us: Init: 20283, First inference: 339304, Warmup (avg): 302814, \
Inference (avg): 266473
INFO: Memory footprint delta from the start of the tool (MB): init=3.2 overall=9.1
"""


def test_the_text_of_the_classic_program() -> None:
    assert read_text(CLASSIC) == ToolResult(266.473, 50)
    assert read_text(CLASSIC.replace("INFO: ", "")) == ToolResult(266.473, 50)
    large = CLASSIC.replace("Inference (avg): 266473", "Inference (avg): 1.26647e+06")
    assert read_text(large).ms == 1266.47


def test_the_text_of_the_new_program() -> None:
    text = "Model initialization: 3.10 ms\nInference (avg):      2.31 ms (50 runs)\n"
    assert read_text(text) == ToolResult(2.31, 50)


def test_other_text_is_an_error_with_its_last_line() -> None:
    with pytest.raises(DeviceError, match="no result: Segmentation fault"):
        read_text("Loading\nSegmentation fault\n\n")
    assert last_line("") == "no output"


def floats(**fields: float) -> bytes:
    return b"".join(
        bytes([int(number[1:]) << 3 | 5]) + struct.pack("<f", value)
        for number, value in fields.items()
    )


def message(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2, len(content)]) + content


def test_a_result_file_by_hand() -> None:
    latency, misc = floats(_1=2.5, _2=2.25, _5=2.375), b"\x10\xb2\x01"
    data = message(1, b"name") + message(2, latency) + message(4, misc)
    assert read_result(data) == ToolResult(2.375, 178)
    assert read_result(message(2, floats(_1=2.5))) == ToolResult(2.5, 1)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_result_or_a_device_error(data: bytes) -> None:
    with contextlib.suppress(DeviceError):
        assert isinstance(read_result(data), ToolResult)
