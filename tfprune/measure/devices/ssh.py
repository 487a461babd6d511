"""A machine with Linux that is reached through ssh, such as a Raspberry Pi.

It needs Python 3.11, numpy and ai-edge-litert, and no TensorFlow: tfprune sends itself along, and
the same child process times the files there that does it here.
"""

import contextlib
import dataclasses
import io
import json
import os
import shlex
import subprocess
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tfprune
from tfprune.errors import DeviceError
from tfprune.measure.devices.benchmark_tool import last_line
from tfprune.measure.devices.device import DeviceInfo, Sample
from tfprune.measure.devices.host import Host
from tfprune.measure.devices.timing_client import ask, samples
from tfprune.measure.devices.timing_jobs import time_files
from tfprune.storage.scratch import scratch_folder
from tfprune.workers.pool import MODULE

PYTHON_VARIABLE = "TFPRUNE_SSH_PYTHON"
COMMAND_LIMIT_S = 300.0
# What ssh itself ends with when it cannot reach the machine; a command there cannot end so.
LOST = 255
# BatchMode: a question for a password would wait for ever.
OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")

_INFO = f"""
import dataclasses, json, os
import ai_edge_litert.interpreter
from {Host.__module__} import Host
print(json.dumps([dataclasses.asdict(Host().info()), os.environ.get("TFPRUNE_FAKE_DEVICE", "")]))
"""


@dataclass(frozen=True)
class Ssh:
    """A machine behind ssh.

    Attributes:
        address: What ssh calls it: `pi@raspberrypi`, or a name of its configuration.
    """

    address: str

    def info(self) -> DeviceInfo:
        """Let the machine say what it is.

        Raises:
            DeviceError: It cannot be reached, or lacks what it needs.
        """
        with self._folder() as folder:
            self._send(folder, {})
            return self._describe(folder)

    def clock(self, threads: int) -> str:
        """It reads the clocks that are read here."""
        return Host().clock(threads)

    def rounds(self, runs: int) -> int:
        """Go round once for each run."""
        return Host().rounds(runs)

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
        """Send everything, yield the samples of a child process there, and clean up.

        Raises:
            DeviceError: It cannot be reached, or lacks what it needs.
            ArtifactError: The runtime there refuses a file or crashes on it.
        """
        with self._folder() as folder:
            sent = {f"{index}.tflite": file.read_bytes() for index, file in enumerate(files)}
            self._send(folder, sent)
            self._describe(folder)  # tells what is missing there better than the child would
            child = f"{self._python(folder)} -m {MODULE} runtime"
            yield from samples(
                ask(
                    time_files,
                    [f"{folder}/{name}" for name in sent],
                    list(schedule),
                    names=names,
                    threads=threads,
                    shapes=shapes,
                    command=["ssh", *OPTIONS, self.address, child],
                    lost={LOST: f"device ssh:{self.address}: the connection was lost"},
                )
            )

    def _describe(self, folder: str) -> DeviceInfo:
        said = self._command(f"{self._python(folder)} -c {shlex.quote(_INFO)}")
        info, fake = json.loads(said.splitlines()[-1])
        return dataclasses.replace(DeviceInfo(**info), fake=bool(fake))

    def _python(self, folder: str) -> str:
        python = shlex.quote(os.environ.get(PYTHON_VARIABLE, "python3"))
        return f"PYTHONPATH={folder}/tfprune.zip {python} -P"

    @contextlib.contextmanager
    def _folder(self) -> Iterator[str]:
        """Give a fresh folder there for the length of a `with` block."""
        folder = self._command("mktemp -d").strip()
        try:
            yield folder
        finally:
            # The connection may be what failed; then there is nothing left to clean.
            with contextlib.suppress(DeviceError):
                self._command(f"rm -rf {shlex.quote(folder)}")

    def _send(self, folder: str, files: Mapping[str, bytes]) -> None:
        """Copy files, and tfprune itself, into a folder there."""
        with scratch_folder() as here:
            for name, content in {**files, "tfprune.zip": _package()}.items():
                Path(here, name).write_bytes(content)
            paths = [str(path) for path in sorted(Path(here).iterdir())]
            self._call(["scp", "-q", *OPTIONS, *paths, f"{self.address}:{folder}/"])

    def _command(self, command: str) -> str:
        return self._call(["ssh", *OPTIONS, self.address, command])

    def _call(self, command: Sequence[str]) -> str:
        where = f"device ssh:{self.address}"
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_LIMIT_S,
            )
        except FileNotFoundError:
            raise DeviceError(f"{where}: the program {command[0]} is not installed here") from None
        except subprocess.TimeoutExpired:
            raise DeviceError(f"{where}: gave no answer in {COMMAND_LIMIT_S:g} s") from None
        if done.returncode == 0:
            return done.stdout
        said = last_line(done.stderr)
        if done.returncode == LOST:
            raise DeviceError(
                f"{where}: cannot be reached ({said}); `ssh {self.address}` must work without "
                "a password"
            )
        if "No space left" in said:
            raise DeviceError(f"{where}: no space left there; free some")
        if "No module named" in said or "Unknown option: -P" in done.stderr or "not found" in said:
            raise DeviceError(
                f"{where}: needs Python 3.11 or later with numpy and ai-edge-litert ({said}); "
                f"{PYTHON_VARIABLE} names another Python there"
            )
        raise DeviceError(f"{where}: {command[0]} failed with code {done.returncode}: {said}")


def _package() -> bytes:
    """Return tfprune's own source as a zip archive, which Python can import from."""
    root = Path(tfprune.__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*.py")):
            archive.write(file, file.relative_to(root.parent))
    return buffer.getvalue()
