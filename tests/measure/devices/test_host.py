"""Devices: the registry, and this machine as one of them."""

from tfprune.measure.devices.host import Host, processor
from tfprune.measure.devices.registry import device_of


def test_this_machine_is_described() -> None:
    info = device_of("host").info()
    assert processor() in info.machine
    assert "cores" in info.machine
    assert info.runtime.startswith("ai-edge-litert ")
    assert not info.fake


def test_one_thread_is_timed_by_its_cpu_time() -> None:
    assert (Host().clock(1), Host().clock(2)) == ("thread CPU time", "wall time")
    assert Host().rounds(50) == 50


def test_samples_follow_the_schedule(float_file, tmp_path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(float_file.bytes)
    samples = list(
        Host().run([path, path], [0, 1, 1, 0], names=["a", "b"], threads=1, runs=2, shapes={})
    )
    assert [sample.file for sample in samples] == [0, 1, 1, 0]
    assert all(sample.ms > 0 and sample.calls >= 1 for sample in samples)
