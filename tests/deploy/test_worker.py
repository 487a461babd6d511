"""The jobs of the child process, called directly."""

import numpy as np
import pytest

from tfprune.deploy import worker


@pytest.fixture
def path(float_file, tmp_path) -> str:
    """The convnet's file on disk."""
    return str(float_file.save(tmp_path / "m.tflite").path)


def test_load_accepts_a_good_file_and_raises_on_a_foreign_one(path, tmp_path):
    worker.load(path)
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(b"\0\0\0\0TFL3" + b"\0" * 100)
    with pytest.raises(ValueError):
        worker.load(str(bad))


def test_run_writes_the_outputs_by_name(path, convnet, images, tmp_path):
    np.savez(tmp_path / "in.npz", image=images[:5])
    worker.run(path, str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    with np.load(tmp_path / "out.npz") as outputs:
        assert outputs.files == ["output_0"]
        expected = convnet.predict(images[:5], verbose=0)
        np.testing.assert_allclose(outputs["output_0"], expected, atol=1e-5)
