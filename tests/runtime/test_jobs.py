"""The jobs of the child process, called directly."""

import numpy as np
import pytest

from tfprune.runtime import jobs
from tfprune.workers.arrays import load_arrays, save_arrays


@pytest.fixture
def path(float_file, tmp_path) -> str:
    """The convnet's file on disk."""
    return str(float_file.save(tmp_path / "m.tflite").path)


def test_run_writes_the_outputs_by_name(path, convnet, images, tmp_path):
    save_arrays(tmp_path / "in.npz", {"image": images[:5]})
    jobs.run(path, str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    outputs = load_arrays(tmp_path / "out.npz")
    assert list(outputs) == ["output_0"]
    expected = convnet.predict(images[:5], verbose=0)
    np.testing.assert_allclose(outputs["output_0"], expected, atol=1e-5)


def test_trace_writes_every_tensor_that_is_computed(path, convnet, images, tmp_path):
    save_arrays(tmp_path / "in.npz", {"image": images[:3]})
    jobs.trace(path, str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    found = [value for value in load_arrays(tmp_path / "out.npz").values() if value.shape == (3, 4)]
    expected = convnet.predict(images[:3], verbose=0)
    assert min(np.abs(value - expected).max() for value in found) < 1e-5
