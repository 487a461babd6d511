"""Real data for the benchmarks, read from the folder that TFPRUNE_DATA names.

Images come as uint8, `(x_train, y_train), (x_test, y_test)`, in the order of the files; a benchmark
scales them itself.
"""

import gzip
import itertools
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pair = tuple[NDArray, NDArray]
Data = tuple[Pair, Pair]

_IDX_TYPES = {0x08: np.uint8, 0x09: np.int8, 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def data_dir() -> Path:
    """Return the folder of data sets."""
    folder = os.environ.get("TFPRUNE_DATA")
    if not folder:
        raise SystemExit("TFPRUNE_DATA is not set: name the folder with mnist/, fashion_mnist/ …")
    return Path(folder)


def read_idx(path: Path) -> NDArray:
    """Return the array of a gzipped idx file, the format that MNIST comes in.

    Raises:
        ValueError: If the file is no idx file, or holds more or less than its header says.
    """
    raw = gzip.decompress(path.read_bytes())
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _IDX_TYPES:
        raise ValueError(f"{path}: not an idx file; it begins with {raw[:4]!r}")
    dtype, rank = np.dtype(_IDX_TYPES[raw[2]]), raw[3]
    shape = tuple(np.frombuffer(raw, ">u4", rank, 4).tolist())
    body = raw[4 + 4 * rank :]
    if len(body) != int(np.prod(shape)) * dtype.itemsize:
        raise ValueError(f"{path}: the header says {shape} {dtype}, but {len(body):,} bytes follow")
    return np.frombuffer(body, dtype).reshape(shape).copy()


def mnist() -> Data:
    """Handwritten digits: 60,000 and 10,000 images of 28×28, 10 classes."""
    return _idx_pairs(data_dir() / "mnist")


def fashion_mnist() -> Data:
    """Articles of clothing: 60,000 and 10,000 images of 28×28, 10 classes."""
    return _idx_pairs(data_dir() / "fashion_mnist")


def _idx_pairs(folder: Path) -> Data:
    return (
        (read_idx(folder / "train-images-idx3-ubyte.gz"),
         read_idx(folder / "train-labels-idx1-ubyte.gz")),
        (read_idx(folder / "t10k-images-idx3-ubyte.gz"),
         read_idx(folder / "t10k-labels-idx1-ubyte.gz")),
    )  # fmt: skip


def cifar10_jpeg75() -> Data:
    """CIFAR-10 after JPEG of quality 75: 50,000 and 10,000 images of 32×32×3, 10 classes.

    JPEG loses something, so these figures never stand beside those of CIFAR-10 itself.
    """
    with np.load(data_dir() / "cifar10_jpeg75_full.npz") as file:
        header = file["header"].tobytes()
        train, test = (
            (
                _decode(header, file[f"{split}_bytes"], file[f"{split}_offset"]),
                file[f"{split}_label"],
            )
            for split in ("train", "test")
        )
    return train, test


def _decode(header: bytes, scans: NDArray, offsets: NDArray) -> NDArray:
    """Every image is the header they share, followed by its own scan."""
    import tensorflow as tf

    images = np.empty((len(offsets) - 1, 32, 32, 3), np.uint8)
    raw = scans.tobytes()
    for i, (start, end) in enumerate(itertools.pairwise(offsets)):
        images[i] = tf.io.decode_jpeg(
            header + raw[start:end], channels=3, dct_method="INTEGER_ACCURATE"
        ).numpy()
    return images
