"""ONNX Runtime on real files: named arrays in and out, one line for what it refuses."""

import numpy as np
import pytest

from tfprune.deploy.onnx.to_onnx import to_onnx
from tfprune.errors import ArtifactError, DataError
from tfprune.runtime.onnx import OnnxRunner, is_onnx, run_onnx
from tfprune.workers.arrays import load_arrays, save_arrays


@pytest.fixture(scope="module")
def onnx_file(convnet):
    return to_onnx(convnet)


def test_any_number_of_samples_gives_what_the_model_gives(convnet, images, onnx_file) -> None:
    runner = OnnxRunner(onnx_file.bytes)
    assert [(spec.name, spec.shape, spec.dtype) for spec in runner.inputs] == [
        ("image", (-1, 8, 8, 1), "float32")
    ]
    expected = convnet.predict(images[:7], verbose=0)
    (found,) = runner.run_named({"image": images[:7]}).values()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    runner.prepare({"image": images[:1]})
    runner.invoke()


def test_a_fixed_batch_is_filled_up(convnet, images) -> None:
    runner = OnnxRunner(to_onnx(convnet, batch=4).bytes, threads=2)
    (found,) = runner.run_named({"image": images[:6]}).values()
    np.testing.assert_allclose(found, convnet.predict(images[:6], verbose=0), atol=1e-5)


def test_a_job_answers_through_files(images, onnx_file, tmp_path) -> None:
    paths = [str(tmp_path / name) for name in ("a.onnx", "in.npz", "out.npz")]
    (tmp_path / "a.onnx").write_bytes(onnx_file.bytes)
    save_arrays(paths[1], {"image": images[:3]})
    takes, gives = run_onnx(*paths)
    assert takes[0]["name"] == "image"
    assert load_arrays(paths[2])[gives[0]["name"]].shape == (3, 4)


def test_wrong_input_is_one_line(images, onnx_file) -> None:
    runner = OnnxRunner(onnx_file.bytes)
    with pytest.raises(DataError, match="unknown input 'imge'. Known: image"):
        runner.run_named({"imge": images})
    with pytest.raises(DataError, match="no input 'image'"):
        runner.run_named({})
    with pytest.raises(ArtifactError, match="failed on this input"):
        runner.run_named({"image": images[:, :3]})
    runner.prepare({"image": images[:1, :3]})
    with pytest.raises(ArtifactError, match="failed on this input"):
        runner.invoke()


def test_what_is_no_file_is_refused(onnx_file) -> None:
    assert is_onnx(onnx_file.bytes)
    assert not is_onnx(b"")
    for data in (b"\x08\x08nonsense", onnx_file.bytes[:-40]):
        with pytest.raises(ArtifactError, match="ONNX Runtime refuses it"):
            OnnxRunner(data)
