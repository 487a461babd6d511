"""Android devices, against a stand-in for adb that really runs the model and says it is fake."""

import struct
from pathlib import Path

import pytest

from tfprune.errors import ArtifactError, DeviceError, OptionError
from tfprune.measure.comparison import compare
from tfprune.measure.devices.adb import TOOL_VARIABLE, Adb, check_machine, connect, device_states
from tfprune.measure.latency import benchmark
from tfprune.report.gates import Gate


def test_a_file_is_pushed_run_and_cleaned_away(phone, float_file) -> None:
    found = benchmark(float_file, device="adb:FOLDER1", runs=3)
    assert found.samples == 1
    assert found.calls == 10
    assert found.median_ms > 0
    seen = found.conditions
    assert seen.device == "adb:FOLDER1"
    assert seen.machine == "Folder (Host)"
    assert seen.system == "Android 14 arm64-v8a, 32 °C after the run"
    assert seen.runtime.startswith("benchmark_model ")
    assert seen.clock == "wall time"
    assert list(phone.iterdir()) == []


def test_the_program_is_started_often_enough() -> None:
    device = Adb("FOLDER1", Path("benchmark_model"))
    assert [device.rounds(runs) for runs in (1, 50, 51, 200)] == [5, 5, 6, 20]


def test_no_figure_of_a_fake_device_is_printed_as_a_measurement(
    phone, float_file, int8_file
) -> None:
    found = benchmark(float_file, device="adb", runs=1)
    assert found.conditions.fake
    assert "not measured" in str(found)
    report = compare(
        float_file, {"int8": int8_file}, device="adb", runs=1, gate=Gate(max_latency_ratio=1e9)
    )
    assert report.conditions.fake
    assert report.row("int8").median_ms > 0  # kept in the data, under its flag
    for text in (report.to_text(), report.to_markdown(), report.to_html()):
        assert " ms" not in text
        assert "was not measured" in text
    assert not report.passed


@pytest.mark.parametrize("flavour", ["classic", "litert"])
def test_programs_without_a_result_file_are_read_by_their_text(
    flavour, phone, float_file, monkeypatch
) -> None:
    monkeypatch.setenv("FAKE_TOOL", flavour)
    assert 0 < benchmark(float_file, device="adb", runs=1).median_ms < 1000


def test_shapes_reach_the_program(phone) -> None:
    import keras

    from tfprune.deploy.tflite import to_tflite

    model = keras.Sequential(
        [keras.Input((None, 4), name="x"), keras.layers.Conv1D(8, 1), keras.layers.ReLU()]
    )
    file = to_tflite(model)
    short = benchmark(file, device="adb", runs=1, input_shapes={"x": (1, 16, 4)})
    long = benchmark(file, device="adb", runs=1, input_shapes={"x": (1, 65536, 4)})
    assert long.median_ms > 4 * short.median_ms
    with pytest.raises(OptionError, match="input_shapes: no input 'y'. Known: x"):
        benchmark(file, device="adb", runs=1, input_shapes={"y": (1, 16, 4)})


def test_a_file_that_the_program_refuses_is_an_error_and_no_number(phone, float_file) -> None:
    device = connect(None)
    broken = phone.parent / "broken.tflite"
    broken.write_bytes(float_file.bytes[:-3000])
    with pytest.raises(ArtifactError, match=r"broken: benchmark_model fails on FOLDER1") as caught:
        list(device.run([broken], [0], names=["broken"], threads=1, runs=1, shapes={}))
    assert "\n" not in str(caught.value)
    assert list(phone.iterdir()) == []


@pytest.mark.parametrize(
    ("listed", "serial", "message"),
    [
        ("", None, "no Android device is connected"),
        ("A device;B device", None, "several are connected: A, B; choose one, such as adb:A"),
        ("A unauthorized usb:1-1", None, "A: is unauthorized; allow USB debugging"),
        ("A offline", "A", "A: is offline; unplug it"),
        ("A no permissions (missing udev rules?)", "A", "is no permissions; give your user"),
        ("R58M12 device", "R58M21", "R58M21: is not connected. .* Did you mean R58M12"),
        ("", "R58M21", "R58M21: is not connected. None is connected"),
    ],
)
def test_a_device_that_cannot_be_used_is_one_line(
    listed, serial, message, phone, monkeypatch
) -> None:
    monkeypatch.setenv("FAKE_ADB_DEVICES", listed)
    with pytest.raises(DeviceError, match=message) as caught:
        connect(serial)
    assert "\n" not in str(caught.value)


def test_a_full_device_is_one_line(phone, float_file, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_ADB_FULL", "1")
    with pytest.raises(DeviceError, match="FOLDER1: no space left"):
        benchmark(float_file, device="adb", runs=1)
    assert list(phone.iterdir()) == []


def test_a_lost_connection_is_one_line(phone, float_file, monkeypatch) -> None:
    monkeypatch.setenv("FAKE_ADB_LOST", "1")
    with pytest.raises(DeviceError, match="FOLDER1: the connection was lost") as caught:
        benchmark(float_file, device="adb", runs=1)
    assert "\n" not in str(caught.value)


def test_a_program_for_another_processor_is_refused_before_it_is_pushed(
    phone, float_file, tmp_path
) -> None:
    tool = tmp_path / "arm32"
    tool.write_bytes(b"\x7fELF" + bytes(14) + struct.pack("<H", 40) + bytes(40))
    check_machine(tool, "armeabi-v7a")
    with pytest.raises(DeviceError, match="is built for armeabi-v7a, the device is arm64-v8a"):
        list(Adb("FOLDER1", tool).run([], [], names=[], threads=1, runs=1, shapes={}))
    assert list(phone.iterdir()) == []


def test_missing_programs_are_one_line(phone, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(TOOL_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(DeviceError, match=f"{TOOL_VARIABLE} must name .* Received .*none"):
        connect(None)
    monkeypatch.delenv(TOOL_VARIABLE)
    with pytest.raises(DeviceError, match="Received nothing"):
        connect(None)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(DeviceError, match="adb is not installed"):
        connect(None)


def test_messages_of_a_starting_server_in_the_listing_are_skipped() -> None:
    listing = "* daemon started successfully\nList of devices attached\nA\tdevice\n\n"
    assert device_states(listing) == {"A": "device"}
