"""The contract of every runtime; a new one fails until there is a file for it."""

import numpy as np
import pytest

from tfprune.errors import ArtifactError
from tfprune.runtime.registry import noise, of_ending, read_any, runtimes, shape_of

FILES = {"litert": "float_file", "onnx": "onnx_file"}


@pytest.fixture
def data(name: str, request) -> bytes:
    """A file that the runtime runs."""
    if name not in FILES:
        pytest.fail(
            f"runtime {name!r} is registered: say in FILES in tests/contract/test_runtimes.py "
            "which fixture is a file for it"
        )
    return request.getfixturevalue(FILES[name]).bytes


def test_no_two_runtimes_have_files_of_the_same_ending() -> None:
    endings = [runtimes[name].ending for name in runtimes]
    assert len(set(endings)) == len(endings)
    assert all(ending.startswith(".") for ending in endings)


@pytest.mark.parametrize("name", runtimes)
def test_a_runtime_loads_and_runs_its_files(name, data, tmp_path) -> None:
    runtime = runtimes[name]
    assert runtime.installed
    assert runtime.version.startswith(f"{runtime.package} ")
    runtime.check(data, "file")
    path = tmp_path / f"file{runtime.ending}"
    path.write_bytes(data)
    assert of_ending(path) is runtime
    assert read_any(path) == (data, runtime)
    assert read_any(data) == (data, runtime)
    loaded = runtime.open(data, 1)
    (spec,) = loaded.inputs
    assert spec.name == "image"
    given = {spec.name: noise(spec, shape_of(spec, {}), np.random.default_rng(0))}
    for _ in range(2):
        loaded.prepare(given)
        loaded.invoke()


@pytest.mark.parametrize("name", runtimes)
def test_a_runtime_refuses_a_damaged_file(name, data) -> None:
    runtime = runtimes[name]

    def load() -> None:
        half = data[: len(data) // 2]
        runtime.check(half, "half")
        runtime.open(half, 1)

    with pytest.raises((ArtifactError, RuntimeError, ValueError)):
        load()
