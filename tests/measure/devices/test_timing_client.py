"""The child process that times files: its crashes, refusals and hangs are one line each."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest

from tfprune.errors import ArtifactError, DeviceError, OptionError
from tfprune.measure.devices import timing_client
from tfprune.measure.devices.timing_jobs import time_files


def ask(code: str, **options) -> list[dict]:
    """Ask a program in the place of the child, one that ends in a known way."""
    stand_in = [sys.executable, "-c", code]
    files = [Path("a"), Path("b")]
    return list(
        timing_client.ask(time_files, files, [], names=["one", "two"], command=stand_in, **options)
    )


LOADING = """
import json, os, sys, time
print(json.dumps({'answer': {'stage': 'loading', 'file': 1}}), flush=True)
"""


def test_a_crash_names_file_signal_and_the_last_line() -> None:
    with pytest.raises(ArtifactError) as caught:
        ask(LOADING + "print('bad kernel', file=sys.stderr); os.abort()")
    assert str(caught.value).startswith(
        "two: the runtime crashes while loading it: the process died "
        f"({signal.SIGABRT.name}): bad kernel; "
    )
    assert "\n" not in str(caught.value)


def test_an_end_without_a_message_is_reported_with_its_code() -> None:
    with pytest.raises(ArtifactError, match=r"two: .* while loading it: .*died \(exit code 3\); "):
        ask(LOADING + "os._exit(3)")


def test_a_hang_is_ended() -> None:
    start = time.monotonic()
    with pytest.raises(ArtifactError, match="hangs while loading it: .*its limit of 1 s"):
        ask(LOADING + "time.sleep(600)", stall_s=1.0)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("RuntimeError", ArtifactError, "two: the runtime refuses the file: op 7 failed"),
        ("OptionError", OptionError, "two: op 7 failed"),
    ],
)
def test_the_error_of_a_refused_file_is_raised(kind, error, message) -> None:
    reply = {"error": kind, "text": "op 7 failed"}
    with pytest.raises(error, match=message):
        ask(LOADING + f"print({json.dumps(reply)!r}, flush=True)")


def test_a_broken_connection_is_not_a_crash_of_the_file() -> None:
    code = LOADING + "print('Broken pipe', file=sys.stderr); os._exit(255)"
    with pytest.raises(DeviceError, match=r"the connection was lost \(Broken pipe\)"):
        ask(code, lost={255: "the connection was lost"})


def test_a_missing_file_is_a_refusal(tmp_path) -> None:
    with pytest.raises(ArtifactError, match="a: the runtime refuses the file: .*No such file"):
        list(timing_client.ask(time_files, [tmp_path / "none"], [], names=["a"]))


def test_closing_the_generator_ends_the_process(float_file, tmp_path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(float_file.bytes)
    answers = timing_client.ask(time_files, [path], [0] * 100_000, names=["a"])
    while "sample" not in next(answers):
        pass
    start = time.monotonic()
    answers.close()
    assert time.monotonic() - start < 10


def test_a_damaged_file_ends_in_one_line(float_file, tmp_path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(float_file.bytes[:-2000])
    with pytest.raises(ArtifactError, match="a: the runtime") as caught:
        list(timing_client.ask(time_files, [path], [], names=["a"]))
    assert "\n" not in str(caught.value)
