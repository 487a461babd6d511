"""Running a file: floats in, floats out, and no crash."""

import os

import keras
import numpy as np
import pytest

from tests.runtime.mutations import mutations
from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ArtifactError, DataError, OptionError
from tfprune.runtime import flatbuffer, litert
from tfprune.runtime.litert import Runner, read_file
from tfprune.workers import pool

L = keras.layers


def test_any_batch_size_gives_the_same_rows(float_file, images):
    runner = Runner(float_file)
    whole = runner(images)
    assert whole.shape == (50, 4)
    np.testing.assert_array_equal(whole[:1], runner(images[:1]))
    np.testing.assert_array_equal(whole[7:9], runner(images[7:9]))


def test_path_bytes_and_artifact_are_the_same(float_file, images, tmp_path):
    path = float_file.save(tmp_path / "m.tflite").path
    expected = Runner(float_file)(images[:2])
    for source in (path, str(path), float_file.bytes):
        np.testing.assert_array_equal(Runner(source)(images[:2]), expected)
        assert read_file(source) == float_file.bytes


def test_int8_is_quantized_on_the_way_in_and_out(convnet, int8_file, images):
    runner = Runner(int8_file)
    assert runner.inputs[0].dtype == "int8"
    got = runner(images)
    assert got.dtype == np.float32
    steps = got / runner.outputs[0].scale
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert np.corrcoef(got.ravel(), convnet.predict(images, verbose=0).ravel())[0, 1] > 0.999


def test_sizes_left_open_are_set_by_the_data():
    inputs = keras.Input((None, 4))
    model = keras.Model(inputs, L.Conv1D(3, 2)(inputs))
    runner = Runner(to_tflite(model))
    for length in (5, 9, 5):
        x = np.random.default_rng(0).normal(size=(2, length, 4)).astype("float32")
        np.testing.assert_allclose(runner(x), model.predict(x, verbose=0), atol=1e-5)


def test_prepare_and_invoke_for_timing(int8_file, images):
    runner = Runner(int8_file, threads=2)
    runner.prepare()
    assert runner.invoke_ms() >= 0
    runner.prepare(images)
    assert 0 < runner.invoke_ms(wall=True) < 1000


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.zeros((2, 8, 8, 3)), r"expected a batch of shape \(None, 8, 8, 1\). Received \(2"),
        (np.zeros((0, 8, 8, 1)), "x= is empty: give at least one sample"),
        (np.full((1, 8, 8, 1), np.nan), "holds NaN or infinity"),
        (np.full((1, 8, 8, 1), "a"), "expected numbers"),
        ({"imag": np.zeros((1, 8, 8, 1))}, "Did you mean image"),
        ({}, "no input 'image'"),
    ],
)
def test_data_that_does_not_fit_is_one_line(float_file, x, text):
    with pytest.raises(DataError, match=text):
        Runner(float_file)(x)


def test_threads_are_checked(float_file):
    with pytest.raises(OptionError, match="threads: expected an integer of at least 1. Received 0"):
        Runner(float_file, threads=0)


def test_a_file_with_flex_operations_is_refused_by_name(tmp_path):
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.float32)])
    def erf(x):
        return tf.math.erf(x)

    module = tf.Module()
    module.erf = erf
    tf.saved_model.save(module, str(tmp_path), signatures=erf)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    with pytest.raises(ArtifactError, match="Flex operations"):
        Runner(converter.convert())


def test_mutated_files_never_crash_the_caller(int8_file):
    outcomes = _survive(int8_file.bytes, 60)
    assert outcomes["refused"] > 30
    assert outcomes["ran"] > 3


def _survive(data: bytes, count: int) -> dict[str, int]:
    ran, messages = 0, []
    for copy in mutations(data, count):
        try:
            runner = Runner(copy)
            runner.prepare()
            runner.invoke()
            ran += 1
        except (ArtifactError, DataError) as error:
            messages.append(str(error))
    assert not any("\n" in message for message in messages)
    return {"ran": ran, "refused": len(messages)}


def test_a_file_is_tried_in_a_child_process_once(float_file, monkeypatch):
    changed = bytearray(float_file.bytes)
    # The description is free text: another content, the same file.
    at = changed.find(b"MLIR Converted.")
    changed[at : at + 4] = b"Mlir"
    Runner(bytes(changed))
    assert litert.sha256(bytes(changed)) in litert._LOADABLE


def test_an_output_that_does_not_count_the_samples_is_not_cut(tmp_path):
    import tensorflow as tf

    serve = tf.function(
        lambda x: {"flat": tf.reshape(x, (6,))}, input_signature=[tf.TensorSpec((1, 6), name="x")]
    )
    module = tf.Module()
    tf.saved_model.save(module, str(tmp_path), signatures=serve.get_concrete_function())
    data = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path)).convert()
    with pytest.raises(ArtifactError, match=r"output 'flat' has shape \(6,\) for a batch of 1"):
        Runner(data)(np.zeros((1, 6), "float32"))


def test_prepared_inputs_run_as_one_batch(convnet, images):
    def batch_of(runner, x=None):
        runner.prepare(x)
        runner.invoke()
        return len(runner._outputs()[0])

    free, fixed = Runner(to_tflite(convnet)), Runner(to_tflite(convnet, batch=3))
    assert [batch_of(free, images[:7]), batch_of(free)] == [7, 1]
    assert [batch_of(fixed, images[:7]), batch_of(fixed, images[:2]), batch_of(fixed)] == [3, 3, 3]


def test_a_failure_of_the_child_process_is_one_line_with_the_fix():
    flex = pool.JobError("RuntimeError", "Select TensorFlow op(s), included in the given model, is")
    assert "which only TensorFlow can run; convert it with built-in" in litert.failure(flex)
    empty = pool.JobError("MemoryError", "")
    assert litert.failure(empty) == "the runtime refuses the file: MemoryError"
    hang = pool.LimitError("took longer than its limit of 1 s")
    assert litert.failure(hang, "running").startswith(
        "the runtime hangs while running it: took longer than its limit of 1 s; "
    )
    with pytest.raises(pool.CrashError) as crash:
        pool.run_job(os.abort, limit_s=60)
    assert litert.failure(crash.value).startswith(
        "the runtime crashes while loading it: the process died (SIGABRT); convert the model with"
    )


def test_an_output_whose_name_is_no_text_is_refused_before_it_runs() -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    data = to_tflite(model).bytes
    name = Runner(data)._interpreter.get_output_details()[0]["name"].encode()
    changed = data.replace(name, b"\xc0" + name[1:])
    assert changed != data
    with pytest.raises(ArtifactError, match="codec can't decode"):
        Runner(changed)


@pytest.mark.parametrize("known", [True, False])
def test_a_tensor_that_would_take_all_memory_is_refused_before_it_is_loaded(
    float_file, known
) -> None:
    first = flatbuffer.parse(float_file.bytes).subgraphs[0].tensors[0]
    shape = first.shape if known else first.signature
    before = np.array(shape, "<i4").tobytes()
    after = np.array((*shape[:1], 1 << 30, *shape[2:]), "<i4").tobytes()
    assert before in float_file.bytes
    with pytest.raises(ArtifactError, match=r"has the shape .*1073741824, .*numbers; at most"):
        Runner(float_file.bytes.replace(before, after))


def test_an_output_that_nothing_computes_is_refused(float_file, images) -> None:
    runner = Runner(float_file)

    class Without:
        """An interpreter whose outputs have no memory, as LiteRT says it."""

        def __getattr__(self, name):
            return getattr(runner_interpreter, name)

        def get_tensor(self, index):
            raise ValueError("Tensor data is null. Run allocate_tensors() first")

    runner_interpreter, runner._interpreter = runner._interpreter, Without()
    with pytest.raises(ArtifactError, match="has no numbers after a run"):
        runner(images)
