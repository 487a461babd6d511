"""The C interface of the runtime, in a process of its own where a wrong layout would end it."""

import ctypes
import importlib.metadata
import json
import subprocess
import sys

import pytest

from tfprune.errors import ArtifactError, OptionError
from tfprune.measure.devices.litert_profile import (
    _EVENT_TYPES,
    EVENT_BYTES,
    VERSIONS,
    _read_events,
    check_version,
)

CODE = """
import json, sys
from tfprune.measure.devices.litert_profile import ProfiledModel
model = ProfiledModel(sys.argv[1], 1, {})
print(json.dumps([list(model.run(2)), list(model.run(1))]))
"""

THREADS = """
import os, sys
from tfprune.measure.devices.litert_profile import ProfiledModel
before = len(os.listdir("/proc/self/task"))
next(ProfiledModel(sys.argv[1], int(sys.argv[2]), {}).run(1))
print(len(os.listdir("/proc/self/task")) - before)
"""


def test_the_installed_version_is_supported() -> None:
    assert check_version().startswith(VERSIONS)


@pytest.mark.parametrize("version", ["2.1.0", "2.1.3", "2.1.6", "2.2.0", "2.3.0"])
def test_all_allowed_versions_are_supported(version, monkeypatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    assert check_version() == version


@pytest.mark.parametrize("version", ["2.0.3", "2.4.0", "2.10.0", "2.12.0", "3.0.0"])
def test_other_versions_are_refused_before_their_library_is_called(version, monkeypatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    with pytest.raises(
        OptionError, match=rf"{version} is not supported.* versions: 2.1.x, 2.2.x, 2.3.x"
    ):
        check_version()


@pytest.mark.parametrize("name", ["float_file", "int8_file"])
def test_each_run_has_the_same_events_and_its_own_times(name, request, tmp_path) -> None:
    file = request.getfixturevalue(name).save(tmp_path / "a.tflite")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(file.path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (one, two), (three,) = json.loads(done.stdout.splitlines()[-1])
    names = [[(kind, kernel) for kind, kernel, _ in events] for events in (one, two, three)]
    assert names[0] == names[1] == names[2]
    assert {kind for kind, _ in names[0]} >= {"kernel"}
    assert all(0 <= time_us < 1e6 for _, _, time_us in one)


def test_the_kernels_have_the_threads_that_were_asked_for(float_file, tmp_path) -> None:
    file = float_file.save(tmp_path / "a.tflite")
    made = [
        int(subprocess.check_output(
            [sys.executable, "-c", THREADS, str(file.path), threads], text=True, timeout=120
        ).splitlines()[-1])
        for threads in ("1", "3")
    ]  # fmt: skip
    assert made[1] - made[0] == 2


@pytest.mark.parametrize("layout", range(len(_EVENT_TYPES)))
def test_events_are_read_in_whatever_layout_they_have(layout: int) -> None:
    names = [ctypes.create_string_buffer(name) for name in (b"GEMM", b"SPMM", b"SOFTMAX")]
    raw = (ctypes.c_char * (3 * EVENT_BYTES))()
    events = (_EVENT_TYPES[layout] * 3).from_buffer(raw)
    for i, (event, name) in enumerate(zip(events, names, strict=True)):
        event.tag, event.kind, event.source = ctypes.addressof(name), 4 >> (i == 2), 2
        event.start_us, event.elapsed_us, event.node = 10**9 + i, 7 * i, i
        event.before[:] = event.after[:] = [10**6 + i] * len(event.before)
    assert _read_events(raw, 3) == [(4, "GEMM", 0.0), (4, "SPMM", 7.0), (2, "SOFTMAX", 14.0)]


def test_events_that_make_no_sense_are_refused() -> None:
    raw = (ctypes.c_char * (3 * EVENT_BYTES))()
    with pytest.raises(ArtifactError, match="an unknown layout"):
        _read_events(raw, 3)
