"""The conversion itself: a SavedModel in, a `.tflite` file out. Runs in a child process."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfprune.deploy.arrays import load_arrays


def convert_saved_model(
    folder: str,
    target: str,
    *,
    quantise: bool,
    activations: str,
    float16: bool,
    sparse: bool,
    io: str,
    samples: str | None,
    batch: int,
) -> None:
    """Convert with TensorFlow's converter.

    Args:
        folder: The SavedModel.
        target: The file to write.
        quantise: As in `Scheme`.
        activations: As in `Scheme`.
        float16: As in `Scheme`.
        sparse: As in `Scheme`.
        io: The type of float inputs and outputs.
        samples: An `.npz` with one array for each input, to calibrate on. None: the model says
            itself how its tensors are rounded.
        batch: How many of them to show at a time.
    """
    import tensorflow as tf

    if activations != "float":
        multiply_instead_of_negate(Path(folder))
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    # Without Flex: the default runtime cannot run it. Built-in float operations stay allowed, so
    # that the one that cannot be quantised is found by name in the file.
    operations = [tf.lite.OpsSet.TFLITE_BUILTINS]
    optimizations = []
    if quantise or float16:
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
    Path(target).write_bytes(converter.convert())


def multiply_instead_of_negate(folder: Path) -> None:
    """Rewrite every negation in a SavedModel as a multiplication by -1, which is the same number.

    The runtime has no integer kernel for a negation, and LayerNormalization of Keras 3 has one: it
    would stay float in an int8 file, and stop a 16x8 conversion.

    Args:
        folder: The SavedModel; its graph is changed in place.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(path.read_bytes())
    for graph in saved.meta_graphs:
        for function in graph.graph_def.library.function:
            renamed = {}
            fused = _before_error_function(function.node_def)
            negations = [node for node in function.node_def if node.op == "Neg"]
            for node in negations:
                if node.name in fused:
                    continue
                minus_one = function.node_def.add()
                minus_one.name, minus_one.op = f"{node.name}_minus_one", "Const"
                kind = node.attr["T"].type
                minus_one.attr["dtype"].type = kind
                minus_one.attr["value"].tensor.CopyFrom(
                    tf.make_tensor_proto(-1, dtype=tf.as_dtype(kind), shape=[])
                )
                node.op = "Mul"
                # Control inputs, marked by ^, come behind the others.
                node.input.insert(1, f"{minus_one.name}:output:0")
                # The one output of Neg is called y, that of Mul z.
                renamed[f"{node.name}:y:0"] = f"{node.name}:z:0"
            for node in function.node_def:
                for i, name in enumerate(node.input):
                    node.input[i] = renamed.get(name, name)
            for key, name in function.ret.items():
                function.ret[key] = renamed.get(name, name)
    path.write_bytes(saved.SerializeToString(deterministic=True))


def _before_error_function(nodes: Any) -> set[str]:
    """Return the nodes up to three steps before an Erf or Erfc.

    The converter knows exact GELU, for which the runtime has a kernel, by all of its parts.
    """
    by_name = {node.name: node for node in nodes}
    found: set[str] = set()
    step = {node.name for node in nodes if node.op in ("Erf", "Erfc")}
    for _ in range(3):
        step = {
            name.partition(":")[0]
            for after in step
            if after in by_name
            for name in by_name[after].input
        }
        found |= step
    return found


def _pieces(arrays: dict[str, np.ndarray], batch: int) -> Iterator[dict[str, Any]]:
    count = len(next(iter(arrays.values())))
    for start in range(0, count, batch):
        index = np.arange(start, start + batch) % count
        yield {name: array[index] for name, array in arrays.items()}


def convert_job(folder: str, target: str, settings: dict[str, Any]) -> None:
    """Run `convert_saved_model` with its options as one dict, which is what a job can take."""
    convert_saved_model(folder, target, **settings)
