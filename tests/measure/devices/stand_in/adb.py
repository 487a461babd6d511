"""A stand-in for adb whose device is a folder of this machine.

It really runs what it is given, and its device says of itself that it is none. The environment sets
its state: FAKE_ADB_ROOT is the folder, FAKE_ADB_DEVICES what `adb devices` lists, FAKE_ADB_FULL=1
leaves no space, FAKE_ADB_LOST=N loses the connection at the N-th start of a program.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROPERTIES = {
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.model": "Folder",
    "ro.soc.model": "Host",
    "ro.build.version.release": "14",
    "tfprune.fake": "1",
}


def on_host(path: str) -> str:
    """Return where a path of the device lies on this machine."""
    return path.replace("/data/local/tmp", os.environ["FAKE_ADB_ROOT"])


def shell(command: str) -> int:
    """Run a command of the device."""
    words = command.split()
    if words[0] == "getprop":
        print(PROPERTIES.get(words[1], ""))
        return 0
    if words[0] == "cat":
        print("31500")
        return 0
    if "benchmark_model " in command and "FAKE_ADB_LOST" in os.environ:
        starts = Path(os.environ["FAKE_ADB_ROOT"], "starts")
        count = len(starts.read_text()) if starts.exists() else 0
        starts.write_text("x" * (count + 1))
        if count >= int(os.environ["FAKE_ADB_LOST"]):
            print("error: device 'FOLDER1' not found", file=sys.stderr)
            return 1
    return subprocess.run(["sh", "-c", on_host(command)]).returncode


def main(arguments: list[str]) -> int:
    """Do what one call of adb asks for."""
    if arguments[0] == "devices":
        listed = os.environ.get("FAKE_ADB_DEVICES", "FOLDER1 device model:Folder")
        print("List of devices attached", *listed.split(";"), sep="\n")
        return 0
    serial, command, *rest = arguments[1:]
    if command == "shell":
        return shell(rest[0])
    if os.environ.get("FAKE_ADB_FULL") and command == "push":
        print(f"adb: error: failed to copy to {rest[1]}: No space left on device", file=sys.stderr)
        return 1
    source, target = (
        (rest[0], on_host(rest[1])) if command == "push" else (on_host(rest[0]), rest[1])
    )
    if not Path(source).exists():
        print(f"adb: error: failed to stat remote object '{rest[0]}' on {serial}", file=sys.stderr)
        return 1
    shutil.copyfile(source, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
