"""Conversion of a SavedModel to a `.tflite` file. Runs in a child process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.deploy.converter.calibrator import mended_calibrator
from tfprune.workers.arrays import load_arrays


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
    with mended_calibrator():
        try:
            data = converter.convert()
        except ValueError as error:
            if "Model input is not dequantized" not in str(error):
                raise
            # All float inputs hold whole numbers, which the file takes as they are.
            converter.inference_input_type = tf.float32
            data = converter.convert()
    Path(target).write_bytes(data)


def _pieces(arrays: dict[str, np.ndarray], batch: int) -> Iterator[dict[str, Any]]:
    count = len(next(iter(arrays.values())))
    for start in range(0, count, batch):
        index = np.arange(start, start + batch) % count
        yield {name: array[index] for name, array in arrays.items()}


def convert_job(folder: str, target: str, settings: dict[str, Any]) -> None:
    """Run `convert_saved_model` with its options as one dict, as jobs need."""
    convert_saved_model(folder, target, **settings)
