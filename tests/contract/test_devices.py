"""The contract of every device; a new one fails until a test knows how to reach it."""

import pytest

from tfprune.errors import ArtifactError
from tfprune.measure.devices.registry import device_of, devices
from tfprune.measure.latency import benchmark

# The name that a test gives, and the fixture that puts a stand-in in the place of the machine.
REACHED = {"host": ("host", None), "adb": ("adb:FOLDER1", "phone"), "ssh": ("ssh:pi", "far")}


@pytest.fixture
def reached(name: str, request) -> str:
    """The full name of a device that can be reached."""
    if name not in REACHED:
        pytest.fail(
            f"device {name!r} is registered: say in REACHED in tests/contract/test_devices.py "
            "how a test reaches it, with a stand-in for its programs"
        )
    full, stand_in = REACHED[name]
    if stand_in is not None:
        request.getfixturevalue(stand_in)
    return full


@pytest.mark.parametrize("name", devices)
def test_a_device_says_what_it_is_and_runs_a_schedule(name, reached, float_file, tmp_path) -> None:
    device = device_of(reached)
    info = device.info()
    assert info.machine
    assert info.system
    assert len(info.runtime.split()) >= 2  # with its version
    assert info.fake == (REACHED[name][1] is not None)
    assert device.clock(1)
    assert device.clock(2) == "wall time"
    rounds = [device.rounds(runs) for runs in (1, 50, 200)]
    assert rounds == sorted(rounds)
    assert rounds[0] >= 1
    files = [tmp_path / "a.tflite", tmp_path / "b.tflite"]
    for file in files:
        file.write_bytes(float_file.bytes)
    schedule = [0, 1, 1, 0]
    options = {"names": ["a", "b"], "threads": 1, "runs": 2, "shapes": {}}
    samples = list(device.run(files, schedule, **options))
    assert [sample.file for sample in samples] == schedule
    assert all(sample.ms > 0 and sample.calls >= 1 for sample in samples)


@pytest.mark.parametrize("name", devices)
def test_a_device_refuses_a_damaged_file_in_one_line(name, reached, float_file, tmp_path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(float_file.bytes[:-3000])
    with pytest.raises(ArtifactError, match="broken") as caught:
        list(device_of(reached).run([broken], [0], names=["broken"], threads=1, runs=1, shapes={}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", devices)
def test_benchmark_takes_a_device_by_its_name(name, reached, float_file) -> None:
    found = benchmark(float_file, device=reached, runs=2)
    assert found.median_ms > 0
    assert found.conditions.device == reached
    assert found.conditions.fake == (REACHED[name][1] is not None)
