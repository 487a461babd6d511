"""Kernels by name and time, from the runtime itself."""

import importlib.metadata

import keras
import pytest

from tfprune.deploy.tflite import to_tflite
from tfprune.errors import ArtifactError, OptionError
from tfprune.measure.profile import KernelTime, Profile, profile, steps_of

L = keras.layers


def test_every_operation_of_a_file_shows_with_its_kernel(float_file) -> None:
    found = profile(float_file, runs=5)
    names = [step.name for step in found.steps]
    assert any("Convolution" in name for name in names)
    assert any("Fully Connected" in name for name in names)
    assert not any("Delegate" in name for name in names)
    assert all(step.delegated for step in found.steps if "Convolution" in step.name)
    assert all(step.median_us >= 0 for step in found.steps)
    assert found.info.runtime.startswith("ai-edge-litert ")
    assert "medians of 5 runs, 1 thread(s)" in str(found)
    assert found.steps_named("SPMM") == ()  # nothing is sparse in it


def test_an_integer_file_runs_integer_kernels(int8_file) -> None:
    assert profile(int8_file, runs=3).steps_named("QS8")


def test_an_open_size_needs_a_shape(tmp_path) -> None:
    model = keras.Sequential(
        [keras.Input((None, 4), name="x"), L.Conv1D(3, 1), L.GlobalAveragePooling1D()]
    )
    file = to_tflite(model)
    with pytest.raises(OptionError, match="has open sizes in its shape"):
        profile(file, runs=1)
    assert profile(file, runs=1, input_shapes={"x": (1, 7, 4)}).steps
    with pytest.raises(OptionError, match="input_shapes: no input 'y'. Known: x"):
        profile(file, runs=1, input_shapes={"x": (1, 7, 4), "y": (1, 7, 4)})


def test_runs_become_medians_step_by_step() -> None:
    rounds = [
        [("kernel", "A", 1.0), ("kernel", "A", 9.0), ("op", "XNNPackDelegate", 11.0),
         ("op", "SOFTMAX", 4.0)],
        [("kernel", "A", 3.0), ("kernel", "A", 7.0), ("op", "XNNPackDelegate", 11.0),
         ("op", "SOFTMAX", 4.0)],
    ]  # fmt: skip
    steps = steps_of(rounds)
    assert steps == (
        KernelTime("A", True, 2.0), KernelTime("A", True, 8.0), KernelTime("SOFTMAX", False, 4.0)
    )  # fmt: skip
    from tfprune.measure.devices.device import DeviceInfo

    found = Profile("m.tflite", steps, 2, 1, DeviceInfo("cpu", "os", "rt"))
    assert found.by_kernel() == {"A": (2, 10.0), "SOFTMAX": (1, 4.0)}
    assert "not run by XNNPACK: SOFTMAX" in str(found)
    assert "71.4 %" in str(found)


def test_a_version_whose_layout_is_not_known_is_refused(float_file, monkeypatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "9.9.9")
    with pytest.raises(OptionError, match=r"ai-edge-litert 9\.9\.9 is not supported"):
        profile(float_file)


def test_what_has_no_profile_is_refused(onnx_file, tmp_path, monkeypatch) -> None:
    # That the file is another kind is said first, whatever the runtime.
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "9.9.9")
    with pytest.raises(OptionError, match=r"only \.tflite files can be profiled"):
        profile(onnx_file)
    with pytest.raises(ArtifactError, match=r"none\.tflite: no such file"):
        profile(tmp_path / "none.tflite")
    with pytest.raises(OptionError, match="runs: expected"):
        profile(b"", runs=0)
