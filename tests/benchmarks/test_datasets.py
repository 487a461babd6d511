"""The readers of the data of the benchmarks."""

import gzip
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "datasets.py"


@pytest.fixture(scope="module")
def datasets() -> ModuleType:
    spec = importlib.util.spec_from_file_location("datasets", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_idx_file_by_hand(datasets: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "two-by-three.gz"
    header = bytes([0, 0, 0x08, 2, 0, 0, 0, 2, 0, 0, 0, 3])
    path.write_bytes(gzip.compress(header + bytes(range(6))))
    found = datasets.read_idx(path)
    assert found.dtype == np.uint8
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PNG and more", "not an idx file"),
        (bytes([0, 0, 0x08, 1, 0, 0, 0, 4, 9]), r"says \(4,\) uint8, but 1 bytes follow"),
    ],
)
def test_other_files_are_refused(
    datasets: ModuleType, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "wrong.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=message):
        datasets.read_idx(path)


@pytest.mark.data
@pytest.mark.usefixtures("data_dir")
@pytest.mark.slow
def test_the_real_files_are_complete(datasets: ModuleType) -> None:
    for load, shape in ((datasets.mnist, (28, 28)), (datasets.fashion_mnist, (28, 28))):
        (x, y), (x_test, y_test) = load()
        assert (x.shape, x_test.shape) == ((60_000, *shape), (10_000, *shape))
        assert np.bincount(y).min() > 5_000
        assert np.bincount(y_test).sum() == 10_000
    _, (images, labels) = datasets.cifar10_jpeg75()
    assert images.shape == (10_000, 32, 32, 3)
    assert np.bincount(labels).tolist() == [1_000] * 10
    assert 100 < images.mean() < 140
