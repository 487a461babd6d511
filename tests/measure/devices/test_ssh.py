"""Machines behind ssh, against a stand-in that runs the commands here and says it is fake."""

import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from tfprune.errors import ArtifactError, DeviceError, OptionError
from tfprune.measure.devices.ssh import PYTHON_VARIABLE, Ssh, _package
from tfprune.measure.latency import benchmark, interleaved

pytestmark = pytest.mark.usefixtures("far")


def left(far: Path) -> list[str]:
    return [path.name for path in far.iterdir() if path.name.startswith("tmp.")]


def test_files_are_sent_timed_and_cleaned_away(far, float_file, int8_file) -> None:
    found = interleaved([float_file, int8_file], device="ssh:pi", runs=4)
    assert [latency.samples for latency in found.latencies] == [8, 4]
    assert all(latency.median_ms > 0 for latency in found.latencies)
    assert found.conditions.device == "ssh:pi"
    assert found.conditions.runtime.startswith("ai-edge-litert ")
    assert found.conditions.clock == "thread CPU time"
    assert found.conditions.fake
    assert "not measured" in str(found.latencies[0])
    assert left(far) == []


def test_what_is_sent_is_the_source_of_tfprune() -> None:
    with zipfile.ZipFile(BytesIO(_package())) as archive:
        names = archive.namelist()
    assert {"tfprune/__init__.py", "tfprune/measure/devices/timing_jobs.py"} <= set(names)
    assert all(name.startswith("tfprune/") and name.endswith(".py") for name in names)


def test_a_machine_out_of_reach_is_one_line(float_file, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_SSH", "down")
    with pytest.raises(DeviceError, match=r"ssh:pi: cannot be reached \(.*No route") as caught:
        benchmark(float_file, device="ssh:pi", runs=1)
    assert "\n" not in str(caught.value)


def test_a_connection_that_breaks_is_one_line(float_file, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_SSH", "3")  # folder, files, description; then the child
    with pytest.raises(DeviceError, match=r"the connection was lost \(.*Broken pipe\)"):
        benchmark(float_file, device="ssh:pi", runs=1)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo \"ModuleNotFoundError: No module named 'ai_edge_litert'\" >&2; exit 1", "No module"),
        ("echo 'Unknown option: -P' >&2; exit 2", "Python 3.11 or later"),
    ],
)
def test_a_python_without_what_is_needed_is_one_line(
    script, message, float_file, monkeypatch, tmp_path, far
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))
    with pytest.raises(DeviceError, match=message) as caught:
        benchmark(float_file, device="ssh:pi", runs=1)
    assert PYTHON_VARIABLE in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left(far) == []


def test_a_file_that_the_runtime_refuses_is_an_error_and_no_number(float_file, tmp_path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(float_file.bytes[:-3000])
    with pytest.raises(ArtifactError, match="broken: the runtime"):
        list(Ssh("pi").run([broken], [0], names=["broken"], threads=1, runs=1, shapes={}))


def test_missing_programs_and_names_are_one_line(float_file, monkeypatch, tmp_path) -> None:
    with pytest.raises(OptionError, match="say which machine, like ssh:"):
        benchmark(float_file, device="ssh", runs=1)
    with pytest.raises(OptionError, match="Received -oProxyCommand=true"):
        benchmark(float_file, device="ssh:-oProxyCommand=true", runs=1)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(DeviceError, match="the program ssh is not installed"):
        benchmark(float_file, device="ssh:pi", runs=1)
