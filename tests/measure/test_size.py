"""Sizes of files and the entropy of what is in them."""

import collections
import gzip
import math

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tfprune.errors import ArtifactError
from tfprune.measure.size import _values, entropy_bytes, sizes, stored_weights
from tfprune.runtime.flatbuffer import Tensor, parse


def test_sizes_are_those_of_the_bytes(float_file) -> None:
    found = sizes(float_file)
    assert found.raw_bytes == len(float_file.bytes)
    assert gzip.decompress(gzip.compress(float_file.bytes, 9, mtime=0)) == float_file.bytes
    assert found.gzip_bytes == len(gzip.compress(float_file.bytes, 9, mtime=0))
    packed = zstandard.ZstdCompressor(level=19).compress(float_file.bytes)
    assert zstandard.decompress(packed) == float_file.bytes
    assert found.zstd_bytes == len(packed) < found.raw_bytes


@pytest.mark.parametrize("file", ["float_file", "int8_file"])
def test_weights_of_a_file_are_those_of_the_model_and_nothing_else(file, request) -> None:
    found = sizes(request.getfixturevalue(file))
    assert found.weights == 3 * 3 * 1 * 8 + 8 + 200 * 10 + 10
    assert found.zeros < 60  # of rounding to int8


def test_zeros_of_a_pruned_model_are_counted_in_its_int8_file(convnet, images) -> None:
    import keras

    from tfprune.deploy.tflite import to_tflite

    pruned = keras.models.clone_model(convnet)
    pruned.set_weights(convnet.get_weights())
    kernel = pruned.get_layer("head").kernel
    values = kernel.numpy()
    values[:180] = 0.0
    kernel.assign(values)
    dense = sizes(to_tflite(convnet, scheme="int8", calibration=images))
    holed = sizes(to_tflite(pruned, scheme="int8", calibration=images))
    assert holed.zeros - dense.zeros >= 180 * 10 - 60
    assert holed.entropy_bytes < dense.entropy_bytes / 4
    assert holed.gzip_bytes < dense.gzip_bytes


def test_weights_left_out_by_a_sparse_encoding_count_as_zeros() -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32, use_bias=False)])
    kernel = np.random.default_rng(0).normal(size=(64, 32)).astype("float32")
    kernel[np.random.default_rng(1).random(kernel.shape) < 0.9] = 0.0
    model.layers[-1].kernel.assign(kernel)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    data = converter.convert()
    (tensor, stored), *_ = [
        (tensor, values)
        for tensor, values in stored_weights(parse(data))
        if tensor.elements == 2048
    ]
    assert tensor.sparse
    assert stored.size < 2048
    found = sizes(data)
    assert (found.weights, found.zeros) == (2048, int((kernel == 0).sum()))


@pytest.mark.parametrize(
    ("dtype", "raw", "expected"),
    [
        ("int4", b"\x2f\x08", [15, 2, 8]),  # the low half first; the last half is padding
        ("int2", b"\xe4", [0, 1, 2]),
        ("bfloat16", b"\x80\x3f\x00\x00\x80\xbf", [0x3F80, 0, 0xBF80]),
        ("int8", b"\xff\x00\x01", [-1, 0, 1]),
    ],
)
def test_stored_numbers_by_hand(dtype, raw, expected) -> None:
    tensor = Tensor("w", (3,), (3,), dtype, 1, scales=(0.1,), zero_points=(0,))
    assert _values(memoryview(raw), tensor).tolist() == expected


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=200))
def test_entropy_of_bytes_is_that_of_their_counts(numbers: list[int]) -> None:
    counts = collections.Counter(numbers).values()
    bits = sum(count * math.log2(len(numbers) / count) for count in counts)
    assert entropy_bytes([np.array(numbers, np.int8)]) == math.ceil(bits / 8 - 1e-9)


@given(st.integers(0, 4096))
def test_entropy_of_a_mask_is_below_that_of_any_code_for_it(zeros: int) -> None:
    values = np.ones(4096, np.float32)
    values[:zeros] = 0.0
    found = entropy_bytes([np.random.default_rng(0).permutation(values)])
    share = zeros / 4096
    bits = sum(-p * math.log2(p) for p in (share, 1 - share) if p)
    assert found == math.ceil(4096 * bits / 8 - 1e-9)


def test_the_entropy_of_no_arrays_is_zero() -> None:
    assert entropy_bytes([]) == entropy_bytes([np.zeros((0, 3), np.float32)]) == 0


def test_what_is_no_file_is_refused() -> None:
    with pytest.raises(ArtifactError):
        sizes(b"not a flatbuffer at all")
