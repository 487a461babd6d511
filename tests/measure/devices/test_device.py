"""The description of a device."""

from tfprune.measure.devices.device import DeviceInfo, Sample


def test_a_device_is_real_by_default() -> None:
    info = DeviceInfo("board", "Linux", "litert 1")
    assert not info.fake
    assert info.others == {}


def test_samples_are_equal_by_value() -> None:
    assert Sample(0, 1.5, 4) == Sample(0, 1.5, 4)
