"""What a device says of itself."""

from tfprune.measure.devices.device import DeviceInfo, Sample


def test_an_info_is_of_a_real_device_unless_it_says_otherwise() -> None:
    info = DeviceInfo("board", "Linux", "litert 1")
    assert not info.fake
    assert info.others == {}


def test_samples_are_equal_by_value() -> None:
    assert Sample(0, 1.5, 4) == Sample(0, 1.5, 4)
