"""The worker's process: its crashes, refusals and silences are one line each."""

import signal
import sys
import time
from pathlib import Path

import pytest

from tfprune.errors import ArtifactError
from tfprune.measure.devices import timing_client


def worker(monkeypatch, code: str) -> None:
    """Put a program in the place of the worker, so that it can die in known ways."""

    def start(module, *arguments):
        assert module == "tfprune.measure.devices.timing_jobs"
        return [sys.executable, "-c", code]

    monkeypatch.setattr(timing_client, "module_command", start)


def ask(**options) -> list[dict]:
    return list(timing_client.ask("time", [Path("a"), Path("b")], names=["one", "two"], **options))


LOADING = "import json, os, sys, time; print(json.dumps({'stage': 'load', 'file': 1}), flush=True);"


def test_a_crash_names_file_signal_and_the_last_line(monkeypatch) -> None:
    worker(monkeypatch, LOADING + "print('bad kernel', file=sys.stderr); os.abort()")
    with pytest.raises(ArtifactError) as caught:
        ask()
    assert str(caught.value).startswith(
        f"two: the runtime's process ended by {signal.SIGABRT.name} while loading it (bad kernel)"
    )
    assert "\n" not in str(caught.value)


def test_a_silent_end_is_told_with_its_code(monkeypatch) -> None:
    worker(monkeypatch, LOADING + "os._exit(3)")
    with pytest.raises(ArtifactError, match="two: .* ended with exit code 3 while loading it"):
        ask()


def test_a_hang_is_ended(monkeypatch) -> None:
    worker(monkeypatch, LOADING + "time.sleep(600)")
    start = time.monotonic()
    with pytest.raises(ArtifactError, match="no sign of life for 1 s while loading it"):
        ask(stall_s=1.0)
    assert time.monotonic() - start < 30


def test_a_refusal_is_passed_on(monkeypatch) -> None:
    worker(monkeypatch, LOADING + "print(json.dumps({'error': 'op 7 failed'}), flush=True)")
    with pytest.raises(ArtifactError, match="two: the runtime refuses the file: op 7 failed"):
        ask()


def test_a_reader_who_leaves_ends_the_process(float_file, tmp_path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(float_file.bytes)
    answers = timing_client.ask("time", [path], names=["a"], schedule=[0] * 100_000)
    while "sample" not in next(answers):
        pass
    start = time.monotonic()
    answers.close()
    assert time.monotonic() - start < 10


def test_a_damaged_file_ends_in_one_line(float_file, tmp_path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(float_file.bytes[:-2000])
    with pytest.raises(ArtifactError, match="a: the runtime") as caught:
        list(timing_client.ask("time", [path], names=["a"]))
    assert "\n" not in str(caught.value)
