"""The devices by name."""

from collections.abc import Callable

from tfprune.errors import OptionError
from tfprune.measure.devices.device import Device
from tfprune.measure.devices.host import Host
from tfprune.utils.registry import Registry

devices: Registry[Callable[[str | None], Device]] = Registry("device")


def device_of(name: str) -> Device:
    """Return the device of a name: `host`, `adb`, `adb:SERIAL`.

    Raises:
        OptionError: No such device.
    """
    if not isinstance(name, str):
        raise OptionError(f"device: expected a name such as 'host' or 'adb:SERIAL', got {name!r}")
    kind, _, address = name.partition(":")
    return devices[kind](address or None)


@devices.register("host")
def host(address: str | None) -> Device:
    """Return this machine."""
    if address is not None:
        raise OptionError(f"device 'host:{address}': this machine has no address. Use 'host'")
    return Host()


@devices.register("adb")
def adb(address: str | None) -> Device:
    """Return an Android device that is connected through adb."""
    from tfprune.measure.devices.adb import connect

    return connect(address)


@devices.register("ssh")
def ssh(address: str | None) -> Device:
    """Return a machine that is reached through ssh, such as a Raspberry Pi."""
    from tfprune.measure.devices.ssh import Ssh

    if address is None or address.startswith("-"):  # which ssh would take for an option
        raise OptionError(
            f"device 'ssh': say which machine, like ssh:pi@raspberrypi. Received {address}"
        )
    return Ssh(address)
