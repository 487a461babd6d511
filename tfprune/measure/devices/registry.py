"""The registry of devices."""

from collections.abc import Callable

from tfprune.errors import OptionError
from tfprune.measure.devices.device import Device
from tfprune.measure.devices.host import Host
from tfprune.utils.registry import Registry

devices: Registry[Callable[[str | None], Device]] = Registry("device")


def device_of(name: str) -> Device:
    """Return the device with a name: `host`, `adb`, `adb:SERIAL`.

    Raises:
        OptionError: The name is unknown.
    """
    if not isinstance(name, str):
        raise OptionError(
            f"device: expected a name such as 'host' or 'adb:SERIAL'. Received {name!r}"
        )
    kind, _, address = name.partition(":")
    return devices[kind](address or None)


@devices.register("host")
def host(address: str | None) -> Device:
    """Return this machine."""
    if address is not None:
        raise OptionError(f"device 'host:{address}': 'host' takes no address. Use 'host'")
    return Host()


@devices.register("adb")
def adb(address: str | None) -> Device:
    """Return an Android device connected through adb."""
    from tfprune.measure.devices.adb import connect

    return connect(address)


@devices.register("ssh")
def ssh(address: str | None) -> Device:
    """Return a machine reached through ssh, such as a Raspberry Pi."""
    from tfprune.measure.devices.ssh import Ssh

    if address is None or address.startswith("-"):  # ssh would read it as an option
        raise OptionError(
            f"device 'ssh': give a machine, such as ssh:pi@raspberrypi. Received {address}"
        )
    return Ssh(address)
