"""Devices found by their names."""

import pytest

from tfprune.errors import OptionError
from tfprune.measure.devices.registry import device_of, devices


@pytest.mark.parametrize("name", ["hots", "", "board:3"])
def test_an_unknown_device_lists_the_known(name: str) -> None:
    with pytest.raises(OptionError, match="unknown device .* Known: .*host"):
        device_of(name)


def test_a_device_that_is_no_name_is_refused() -> None:
    with pytest.raises(OptionError, match="device: expected a name .* Received 3"):
        device_of(3)


def test_a_custom_device_is_found_by_its_name() -> None:
    @devices.register("board")
    def board(address):
        return address

    try:
        assert device_of("board:/dev/tty1") == "/dev/tty1"
        assert device_of("board") is None
        with pytest.raises(OptionError, match="registered already"):
            devices.register("board")
    finally:
        del devices._entries["board"]
