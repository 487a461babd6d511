"""A file is loaded and run once before it is trusted."""

import pytest

from tfprune.runtime import interpreter


def test_load_accepts_a_good_file_and_raises_on_a_foreign_one(float_file, tmp_path):
    path = str(float_file.save(tmp_path / "m.tflite").path)
    interpreter.load(path)
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"\0\0\0\0TFL3" + b"\0" * 100)
    with pytest.raises(ValueError):
        interpreter.load(str(bad))
