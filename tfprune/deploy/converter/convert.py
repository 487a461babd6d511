"""Conversion of a SavedModel to a `.tflite` file. Runs in a child process."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.runtime.flatbuffer import Reader, parse
from tfprune.workers.arrays import load_arrays

# The calibrator gives a tensor that was always zero the range up to the smallest float. A constant
# this small is the epsilon of a norm whose variance was always zero.
_ZEROS, _EPSILON = 3e-6, 1e-5


def convert_saved_model(
    folder: str,
    target: str,
    *,
    quantize: bool,
    activations: str,
    float16: bool,
    sparse: bool,
    io: str,
    samples: str | None,
    batch: int,
) -> None:
    """Convert with TensorFlow's converter.

    Args:
        folder: The SavedModel, rewritten.
        target: The file to write.
        quantize: As in `Scheme`.
        activations: As in `Scheme`.
        float16: As in `Scheme`.
        sparse: As in `Scheme`.
        io: The type of float inputs and outputs.
        samples: An `.npz` with one array for each input, to calibrate on. None: the model has
            trained ranges.
        batch: Batch size of the calibration.
    """
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    # Without Flex, which the default runtime cannot run. Built-in float operations stay allowed, so
    # that an operation that cannot be quantized is found by name in the file.
    operations = [tf.lite.OpsSet.TFLITE_BUILTINS]
    optimizations = []
    if quantize or float16:
        optimizations.append(tf.lite.Optimize.DEFAULT)
    if sparse:
        optimizations.append(tf.lite.Optimize.EXPERIMENTAL_SPARSITY)
    converter.optimizations = optimizations
    if float16:
        converter.target_spec.supported_types = [tf.float16]
    if activations == "int8" and samples is not None:
        operations.insert(0, tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
    elif activations == "int16":
        operations.insert(
            0, tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        )
    converter.target_spec.supported_ops = operations
    if samples is not None:
        arrays = load_arrays(samples)
        converter.representative_dataset = lambda: _pieces(arrays, batch)
    if io != "float32":
        converter.inference_input_type = tf.as_dtype(io)
        converter.inference_output_type = tf.as_dtype(io)
    with _ranges_that_kernels_take():
        try:
            data = converter.convert()
        except ValueError as error:
            if "Model input is not dequantized" not in str(error):
                raise
            # All float inputs hold whole numbers, which the file takes as they are.
            converter.inference_input_type = tf.float32
            data = converter.convert()
    Path(target).write_bytes(data)


@contextlib.contextmanager
def _ranges_that_kernels_take() -> Iterator[None]:
    """Calibrate to ranges that the kernels compute with.

    A tensor that is the same number for all samples gets a wider range. From 0 to 0, its scale
    would be so small that no kernel of XNNPACK takes it, and no bias that is stored with it fits
    into 32 bits. Around any other number, the converter lets the range begin below 0, and the
    kernel of 1 / sqrt ends the process.

    A float tensor that is only cast to integers, such as tokens that a model takes as floats, gets
    none: rounded to 256 values and cast, a number would be another one.
    """
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    plain = Calibrator.calibrate

    def calibrate(self: Any, dataset_gen: Any) -> bytes:
        return _taken(bytes(plain(self, dataset_gen)))

    Calibrator.calibrate = calibrate
    try:
        yield
    finally:
        Calibrator.calibrate = plain


def _taken(data: bytes) -> bytes:
    edited, reader = bytearray(data), Reader(data)
    graphs = reader.tables(reader.follow(0), 2)
    for graph, parsed in zip(graphs, parse(data).subgraphs, strict=True):
        cast = {index for op in parsed.ops if op.name == "CAST" for index in op.inputs}
        cast -= {index for op in parsed.ops if op.name != "CAST" for index in op.inputs}
        for index, tensor in enumerate(reader.tables(graph, 0)):
            table = reader.table(tensor, 4)
            if table is None:
                continue
            if index in cast:
                for field in (0, 1):
                    if (span := reader.span(table, field, 4)) is not None:
                        struct.pack_into("<I", edited, span.start - 4, 0)
                continue
            low, high = (reader.vector(table, field, "<f4") for field in (0, 1))
            span = reader.span(table, 1, 4)
            if span is None or high.size != 1:
                continue
            largest, below = max(*abs(low), *abs(high)), reader.span(table, 0, 4)
            constant = below is not None and low[0] == high[0] > 0
            if constant and below is not None:
                struct.pack_into("<f", edited, below.start, 0.0)
            if largest < (_EPSILON if constant else _ZEROS):
                struct.pack_into("<f", edited, span.start, 1.0)
    return bytes(edited)


def _pieces(arrays: dict[str, np.ndarray], batch: int) -> Iterator[dict[str, Any]]:
    count = len(next(iter(arrays.values())))
    for start in range(0, count, batch):
        index = np.arange(start, start + batch) % count
        yield {name: array[index] for name, array in arrays.items()}


def convert_job(folder: str, target: str, settings: dict[str, Any]) -> None:
    """Run `convert_saved_model` with its options as one dict, as jobs need."""
    convert_saved_model(folder, target, **settings)
