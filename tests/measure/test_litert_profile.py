"""The C interface of the runtime, in a process of its own where a wrong layout would end it."""

import subprocess
import sys

import pytest

from tfprune.measure.litert_profile import VERSIONS, check_version

CODE = """
import json, sys
from tfprune.measure.litert_profile import ProfiledModel
model = ProfiledModel(sys.argv[1], 1, {})
print(json.dumps([list(model.run(2)), list(model.run(1))]))
"""


def test_the_installed_version_is_known() -> None:
    assert check_version().startswith(VERSIONS)


@pytest.mark.parametrize("name", ["float_file", "int8_file"])
def test_each_run_has_the_same_events_and_its_own_times(name, request, tmp_path) -> None:
    import json

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
