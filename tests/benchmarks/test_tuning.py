"""Both sides of the accuracy study have the same batches and learning rates."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "tuning.py"


@pytest.fixture(scope="module")
def tuning() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tuning", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray, np.ndarray]:
    """300 images of 1×2 pixels, whose second pixel is 1; the label is the first pixel."""
    x = np.ones((300, 1, 2, 1), np.uint8)
    x[:, 0, 0, 0] = np.arange(300) % 256
    return x, x[:, 0, 0, 0].astype(np.int32)


def test_all_methods_get_the_same_batches(tuning: ModuleType, images) -> None:
    one, other, third = (list(tuning.batches(*images, 2, seed, flip=True)) for seed in (5, 5, 6))
    assert len(one) == tuning.steps_of(300, 2) == 4
    for (x, y), (again, labels) in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, again)
        np.testing.assert_array_equal(y, labels)
    assert (one[0][1] != third[0][1]).any()
    assert (one[0][1] != one[2][1]).any()


def test_labels_follow_their_images_and_about_half_are_flipped(tuning: ModuleType, images) -> None:
    ((x, y), *_) = tuning.batches(*images, 1, 0, flip=True)
    assert (x.dtype, x.shape) == (np.float32, (128, 1, 2, 1))
    pixels = np.rint((x[:, 0, :, 0] + 1) * 127.5).astype(int)
    straight = pixels[:, 0] == y
    assert (straight | (pixels[:, 1] == y)).all()
    assert 32 < straight.sum() < 96
    ((x, y), *_) = tuning.batches(*images, 1, 0, flip=False)
    assert (np.rint((x[:, 0, 0, 0] + 1) * 127.5).astype(int) == y).all()


def test_batches_leave_the_images_as_they_are(tuning: ModuleType, images) -> None:
    before = images[0].copy()
    list(tuning.batches(*images, 1, 0, flip=True))
    np.testing.assert_array_equal(images[0], before)


def test_the_rate_falls_along_half_a_cosine(tuning: ModuleType) -> None:
    rates = [tuning.rate_at(step, 4, 0.2) for step in range(5)]
    np.testing.assert_allclose(rates, [0.2, 0.170711, 0.1, 0.029289, 0], atol=1e-6)


def test_samples_come_in_order_and_never_as_an_empty_batch(tuning: ModuleType, images) -> None:
    found = tuning.in_batches(*images, 1024)
    assert [len(y) for _, y in found] == [128, 128, 44]
    np.testing.assert_array_equal(np.concatenate([y for _, y in found]), images[1])
