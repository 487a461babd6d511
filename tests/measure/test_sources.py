"""Sources: their names, and their content on disk."""

from pathlib import Path

import pytest

from tfprune.errors import ArtifactError
from tfprune.measure.sources import name_of, staged


def test_the_name_of_a_source_is_that_of_its_file(float_file, tmp_path) -> None:
    saved = float_file.save(tmp_path / "small.tflite")
    assert name_of(saved) == name_of(saved.path) == name_of(str(saved.path)) == "small.tflite"
    assert name_of(float_file) == name_of(float_file.bytes) == "model"


def test_files_are_copied_so_that_they_cannot_change_while_measured(float_file, tmp_path) -> None:
    path = tmp_path / "a.tflite"
    path.write_bytes(float_file.bytes)
    with staged([path, float_file, float_file.bytes]) as files:
        path.write_bytes(b"gone")
        assert len(set(files)) == 3
        assert {file.read_bytes() for file in files} == {float_file.bytes}
    assert not any(file.exists() for file in files)


@pytest.mark.parametrize("content", [None, b"", b"no file of the format", "half"])
def test_what_is_no_file_is_refused(content, float_file, tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    if content is not None:
        half = float_file.bytes[: len(float_file.bytes) // 2]
        path.write_bytes(half if content == "half" else content)
    with pytest.raises(ArtifactError, match=r"a\.tflite") as caught, staged([path]):
        pass
    assert "\n" not in str(caught.value)
