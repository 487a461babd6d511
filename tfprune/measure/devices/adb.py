"""An Android device: files are timed by the official `benchmark_model`, pushed over adb.

One start of the program is one sample: the median of its calls. Each is a separate process on the
device, so that samples of different files can be interleaved.
"""

import contextlib
import os
import shlex
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfprune.errors import ArtifactError, DeviceError, nearest
from tfprune.measure.devices.benchmark_tool import ToolResult, last_line, read_result, read_text
from tfprune.measure.devices.device import DeviceInfo, Sample
from tfprune.runtime import flatbuffer
from tfprune.runtime.artifact import sha256
from tfprune.runtime.registry import check_inputs
from tfprune.runtime.stored_numbers import specs
from tfprune.storage.scratch import scratch_folder

TOOL_VARIABLE = "TFPRUNE_BENCHMARK_MODEL"
COMMAND_LIMIT_S = 600.0
CALLS_PER_SAMPLE = 10
MIN_ROUNDS = 5

_FOLDER = "/data/local/tmp"
_ADVICE = {
    "unauthorized": "allow USB debugging on its screen",
    "offline": "unplug it and plug it in again",
    "no permissions": "give your user the right to use it (udev rules)",
}
# Processor codes in the header of a program, and Android's names for them.
_MACHINES = {3: "x86", 40: "armeabi-v7a", 62: "x86_64", 183: "arm64-v8a"}
_LOST = ("not found", "device offline", "no devices", "closed", "protocol fault")


@dataclass(frozen=True)
class Adb:
    """A connected Android device, with the `benchmark_model` for its processor."""

    serial: str
    tool: Path

    def info(self) -> DeviceInfo:
        """Return the phone, its processor, its Android and the program."""
        prop = self._property
        chip = prop("ro.soc.model") or prop("ro.hardware")
        heat = self._temperature()
        version = f"Android {prop('ro.build.version.release')} {prop('ro.product.cpu.abi')}"
        return DeviceInfo(
            machine=" ".join(filter(None, [prop("ro.product.model"), chip and f"({chip})"])),
            system=version + (f", {heat:.0f} °C after the run" if heat is not None else ""),
            runtime=f"benchmark_model {sha256(self.tool.read_bytes())[:12]}",
            fake=prop("tfprune.fake") == "1",
        )

    def clock(self, threads: int) -> str:
        """Return "wall time", which the program measures."""
        return "wall time"

    def rounds(self, runs: int) -> int:
        """Return how often to start the program for so many calls, at least a few times."""
        return max(MIN_ROUNDS, -(-runs // CALLS_PER_SAMPLE))

    def run(
        self,
        files: Sequence[Path],
        schedule: Sequence[int],
        *,
        names: Sequence[str],
        threads: int,
        runs: int,
        shapes: Mapping[str, Sequence[int]],
    ) -> Iterator[Sample]:
        """Push everything, start the program for each entry of the schedule, and clean up.

        Raises:
            DeviceError: The device is disconnected, full, or not the one the program is built for.
            ArtifactError: The program fails on a file.
        """
        if shapes:
            contents = [flatbuffer.parse(file.read_bytes(), str(file)) for file in files]
            check_inputs(shapes, [spec for found in contents for spec in specs(found)[0]])
        check_machine(self.tool, self._property("ro.product.cpu.abi"))
        folder = f"{_FOLDER}/tfprune-{os.urandom(4).hex()}"
        self._shell("mkdir", "-p", folder)
        try:
            self._adb("push", str(self.tool), f"{folder}/benchmark_model")
            self._shell("chmod", "755", f"{folder}/benchmark_model")
            for index, file in enumerate(files):
                self._adb("push", str(file), f"{folder}/{index}.tflite")
            for place, index in enumerate(schedule):
                result_file = f"{folder}/{place}.pb"  # a new name, so that no old file is read
                result = self._time(folder, index, names[index], threads, shapes, result_file)
                yield Sample(index, result.ms, result.calls)
        finally:
            # If the connection failed, nothing can be cleaned up.
            with contextlib.suppress(DeviceError):
                self._shell("rm", "-rf", folder)

    def _time(
        self,
        folder: str,
        index: int,
        name: str,
        threads: int,
        shapes: Mapping[str, Sequence[int]],
        result_file: str,
    ) -> ToolResult:
        command = [
            f"{folder}/benchmark_model",
            f"--graph={folder}/{index}.tflite",
            f"--num_threads={threads}",
            f"--num_runs={CALLS_PER_SAMPLE}",
            "--min_secs=0.1",
            "--warmup_min_secs=0.1",
            f"--result_file_path={result_file}",
        ]
        if shapes:
            sides = (",".join(map(str, shape)) for shape in shapes.values())
            command += [
                f"--input_layer={','.join(shapes)}",
                f"--input_layer_shape={':'.join(sides)}",
            ]
        done = self._adb("shell", shlex.join(command), check=False)
        output = done.stdout + done.stderr
        if done.returncode or "Benchmarking failed" in output:
            self._refuse_if_lost(done)
            raise ArtifactError(
                f"{name}: benchmark_model fails on {self.serial} with code {done.returncode}: "
                f"{last_line(output)}"
            )
        with scratch_folder() as here:
            local = Path(here, "result.pb")
            # Old builds write no result file; their output is less exact but enough.
            self._adb("pull", result_file, str(local), check=False)
            return read_result(local.read_bytes()) if local.exists() else read_text(output)

    def _property(self, name: str) -> str:
        return self._shell("getprop", name).strip()

    def _temperature(self) -> float | None:
        done = self._adb("shell", "cat /sys/class/thermal/thermal_zone0/temp", check=False)
        text = done.stdout.strip()
        if done.returncode or not text.lstrip("-").isdigit():
            return None  # not readable by the shell on most phones
        value = int(text)
        return value / 1000 if abs(value) > 200 else float(value)

    def _shell(self, *command: str) -> str:
        return self._adb("shell", shlex.join(command)).stdout

    def _adb(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = _run(["-s", self.serial, *arguments])
        if check and done.returncode:
            self._refuse_if_lost(done)
            raise DeviceError(
                f"device {self.serial}: adb {arguments[0]} failed: "
                f"{last_line(done.stdout + done.stderr)}"
            )
        return done

    def _refuse_if_lost(self, done: subprocess.CompletedProcess[str]) -> None:
        output = done.stdout + done.stderr
        if "No space left" in output:
            raise DeviceError(f"device {self.serial}: no space left in {_FOLDER}; free some space")
        if "error:" in output and any(word in output for word in _LOST):
            raise DeviceError(
                f"device {self.serial}: the connection was lost ({last_line(output)}); "
                "check the cable and run again"
            )


def connect(serial: str | None) -> Adb:
    """Return the device with a serial number, or the only connected one.

    The environment variable TFPRUNE_BENCHMARK_MODEL names the program to run there.

    Raises:
        DeviceError: adb or the program is missing, or the device is not available.
    """
    if shutil.which("adb") is None:
        raise DeviceError(
            "device adb: the program adb is not installed; install Android's platform-tools"
        )
    tool = os.environ.get(TOOL_VARIABLE)
    if not tool or not Path(tool).is_file():
        raise DeviceError(
            f"device adb: {TOOL_VARIABLE} must name the official benchmark_model program, built "
            f"for the device. Received {tool or 'nothing'}"
        )
    states = device_states(_run(["devices", "-l"]).stdout)
    if serial is None:
        if not states:
            raise DeviceError(
                "device adb: no Android device is connected; plug one in with USB debugging on"
            )
        if len(states) > 1:
            raise DeviceError(
                f"device adb: several are connected: {', '.join(states)}; "
                f"choose one, such as adb:{next(iter(states))}"
            )
        serial = next(iter(states))
    if serial not in states:
        known = nearest(serial, states) if states else "None is connected."
        raise DeviceError(f"device adb:{serial}: is not connected. {known}")
    state = states[serial]
    if state != "device":
        advice = _ADVICE.get(state, "it must be in the state 'device'")
        raise DeviceError(f"device adb:{serial}: is {state}; {advice}")
    return Adb(serial, Path(tool))


def device_states(listing: str) -> dict[str, str]:
    """Return the state of each device from the output of `adb devices -l`.

    Example:
        >>> device_states("List of devices attached\\nR58M  device usb:1-1\\nX1  offline\\n")
        {'R58M': 'device', 'X1': 'offline'}
    """
    states = {}
    for line in listing.splitlines():
        words = line.split()
        if line.startswith(("List of", "*")) or len(words) < 2:
            continue
        states[words[0]] = "no permissions" if words[1] == "no" else words[1]
    return states


def check_machine(tool: Path, abi: str) -> None:
    """Raise if a program is built for another processor than the device's.

    Raises:
        DeviceError: The processors differ.
    """
    with tool.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or not header.startswith(b"\x7fELF"):
        return  # a script, which the device may be able to run
    (machine,) = struct.unpack_from("<H", header, 18)
    built = _MACHINES.get(machine, f"machine {machine}")
    if built != abi:
        raise DeviceError(
            f"{tool}: is built for {built}, the device is {abi}; get the benchmark_model for it"
        )


def _run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["adb", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"device adb: adb {shlex.join(arguments)} timed out after {COMMAND_LIMIT_S:g} s; "
            "check the cable and run again"
        ) from None
