"""Files beside their baseline: every figure is there, and right where it is known."""

import hashlib

import pytest

from tfprune.errors import ArtifactError, OptionError
from tfprune.measure.comparison import compare, versions
from tfprune.report.gates import Gate
from tfprune.report.report import Report


@pytest.fixture(scope="module")
def report(convnet, float_file, int8_file, images, labels) -> Report:
    return compare(
        {"dense": (float_file, convnet)},
        {"int8": (int8_file, convnet), "copy": float_file.bytes},
        (images, labels),
        runs=10,
        gate=Gate(max_accuracy_drop=0.05, min_compression=2.0, max_latency_ratio=50.0),
        title="Convnet",
    )


def test_rows_have_the_measurements_of_their_file(report, float_file, int8_file) -> None:
    dense, int8, copy = report.rows
    assert [row.name for row in report.rows] == ["dense", "int8", "copy"]
    assert [row.scheme for row in report.rows] == ["float32", "int8", ""]
    assert dense.score == copy.score == 108 / 120
    assert abs(int8.score - dense.score) < 0.05
    assert dense.agreement is None
    assert copy.agreement == 1.0
    assert (copy.max_abs_error, copy.mean_abs_error) == (0.0, 0.0)
    assert int8.raw_bytes == len(int8_file.bytes)
    assert int8.sha256 == hashlib.sha256(int8_file.bytes).hexdigest()
    assert dense.gzip_bytes == float_file.report.gzip_bytes
    assert 0 < int8.entropy_bytes < int8.gzip_bytes
    assert dense.weights == dense.params == 2090
    assert dense.macs == 100 * 8 * 9 + 200 * 10
    assert [kernel.name for kernel in dense.kernels] == ["conv/kernel", "head/kernel"]
    assert copy.params is copy.macs is None
    assert all(row.peak_bytes > 0 and row.median_ms > 0 for row in report.rows)


def test_the_copy_of_the_baseline_takes_as_long(report) -> None:
    assert report.baseline.latency_ratio is None
    assert 0.5 < report.row("copy").latency_ratio.median < 2.0
    assert report.row("copy").latency_ratio.pairs == 10
    assert 0.5 < report.conditions.noise.median < 2.0


def test_the_rest_of_the_report(report) -> None:
    assert (report.title, report.metric, report.samples) == ("Convnet", "accuracy", 120)
    verdicts = {(gate.row, gate.name): gate.passed for gate in report.gates}
    assert verdicts["int8", "min_compression"]
    assert not verdicts["copy", "min_compression"]
    assert verdicts["copy", "max_accuracy_drop"]
    assert not report.passed
    assert Report.from_json(report.to_json()) == report
    assert set(versions()) >= {"python", "tfprune", "ai-edge-litert", "zlib"}


def test_without_data_there_is_no_score(float_file) -> None:
    report = compare(float_file, [float_file.bytes], runs=2)
    assert [row.name for row in report.rows] == ["baseline", "model"]
    assert report.baseline.score is None
    assert report.samples == 0


def test_a_layer_without_a_mac_rule_is_named_in_a_note(float_file) -> None:
    import keras

    class Opaque(keras.layers.Layer):
        def call(self, x):
            import tensorflow as tf

            return tf.nn.relu(x)

        def compute_output_shape(self, shape):
            return shape

    model = keras.Sequential([keras.Input((4,)), Opaque(name="opaque")])
    report = compare((float_file, model), {"same": float_file}, runs=2)
    (note,) = report.notes
    assert note.startswith("baseline: no rule for the multiply-accumulates of opaque")


def test_a_model_whose_work_cannot_be_counted_is_a_note(float_file) -> None:
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Dense(3, input_shape=(4,))])
    report = compare((float_file, model), {"same": float_file}, runs=2)
    assert report.baseline.params == 15
    assert report.baseline.macs is None
    (note,) = report.notes
    assert note.startswith("baseline: multiply-accumulates were not counted: ")


def test_a_damaged_file_is_an_error_with_its_name(float_file, images, labels) -> None:
    broken = bytearray(float_file.bytes)
    place = broken.index(b"TFL3") + 4
    broken[place:] = bytes(len(broken) - place)
    with pytest.raises(ArtifactError, match=r"^small: the file: ") as caught:
        compare(float_file, {"small": bytes(broken)}, (images, labels))
    assert "\n" not in str(caught.value)


def test_wrong_calls_are_one_line(float_file, tmp_path) -> None:
    with pytest.raises(OptionError, match="different names. Received baseline, model, model"):
        compare(float_file, [float_file, float_file.bytes])
    with pytest.raises(OptionError, match="expected one file. Received a, b"):
        compare({"a": float_file, "b": float_file}, float_file)
    with pytest.raises(OptionError, match="Received an empty list"):
        compare(float_file, [])
    with pytest.raises(OptionError, match="or a pair of one and its model. Received 3 parts"):
        compare((float_file, None, None), float_file)
    with pytest.raises(OptionError, match="Received an empty dict"):
        compare(float_file, {})
    with pytest.raises(ArtifactError, match=r"none\.tflite: no such file"):
        compare(float_file, tmp_path / "none.tflite")
    # Before anything is read or run.
    with pytest.raises(OptionError, match="Did you mean host"):
        compare(tmp_path / "none.tflite", [], device="hots")
    with pytest.raises(OptionError, match="runs: expected a whole number"):
        compare(tmp_path / "none.tflite", [], runs=0)


def test_a_keras_metric_has_its_name_in_the_report(float_file, images, labels) -> None:
    import keras

    metric = keras.metrics.SparseCategoricalAccuracy(name="right")
    report = compare(float_file, [float_file.bytes], (images, labels), metric=metric, runs=2)
    assert report.metric == "right"
    assert [round(row.score, 5) for row in report.rows] == [0.9, 0.9]


def test_remarks_on_the_data_are_notes_of_the_report(float_file, int8_file, images, labels) -> None:
    found = compare(float_file, {"int8": int8_file}, (images * 255, labels * 0), runs=2)
    assert [note.partition(":")[0] for note in found.notes] == ["all 120 labels are 0", "int8"]


def test_an_onnx_file_is_refused_with_the_call_that_times_it(
    float_file, onnx_file, tmp_path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_file.bytes)
    for source in (path, onnx_file):
        with pytest.raises(OptionError, match=r"b: compare takes \.tflite files; benchmark times"):
            compare(float_file, {"b": source}, runs=2)


def test_a_wrong_gate_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(OptionError, match="gate: expected a Gate"):
        compare("no.tflite", "such.tflite", gate={"max_bytes": 5})
