"""`tfprune inspect`, `units` and `benchmark`."""

from pathlib import Path

import pytest

import tfprune
from tests.commands.calls import call, loaded
from tfprune import cli
from tfprune.commands import files as files_commands
from tfprune.commands.options import sizes_by_name
from tfprune.errors import OptionError


@pytest.fixture
def files(compared_folder: Path) -> list[str]:
    """Two `.tflite` files."""
    return [str(compared_folder / f"{scheme}.tflite") for scheme in ("float32", "int8")]


@pytest.mark.slow
def test_inspect_and_benchmark_print_without_loading_tensorflow(files: list[str]) -> None:
    done = call("inspect", files[1])
    assert done.returncode == 0, done.stderr
    assert "FULLY_CONNECTED" in done.stdout
    assert "tensorflow" not in loaded(done)
    done = call("benchmark", *files, "--runs", "5")
    assert done.returncode == 0, done.stderr
    assert "median" in done.stdout
    assert "int8" in done.stdout
    assert "tensorflow" not in loaded(done)
    done = call("benchmark", files[0], "--runs", "5")
    assert done.returncode == 0, done.stderr
    assert "p90" in done.stdout


@pytest.mark.parametrize("command", ["inspect", "benchmark"])
def test_other_files_than_tflite_are_a_one_line_error_with_code_2(
    command: str, tmp_path: Path, files: list[str]
) -> None:
    text, cut = tmp_path / "text.tflite", tmp_path / "cut.tflite"
    text.write_text("not a model")
    cut.write_bytes(Path(files[0]).read_bytes()[:300])
    for path in (text, cut, tmp_path / "gone.tflite"):
        done = call(command, str(path))
        assert done.returncode == 2
        lines = [line for line in done.stderr.splitlines() if line.startswith("tfprune: ")]
        assert len(lines) == 1
        assert str(path) in lines[0]
        assert "Traceback" not in done.stderr


def test_units_of_a_model_are_listed(tmp_path: Path) -> None:
    import keras

    path = tmp_path / "m.keras"
    layers = [keras.Input((8,)), keras.layers.Dense(6, name="hidden"), keras.layers.Dense(4)]
    keras.Sequential(layers).save(path)
    done = call("units", str(path))
    assert done.returncode == 0, done.stderr
    assert "hidden" in done.stdout
    # TensorFlow's greetings are not the user's concern.
    assert [line for line in done.stderr.splitlines() if not line.startswith("LOADED")] == []
    path.write_bytes(path.read_bytes()[:100])
    done = call("units", str(path))
    assert done.returncode == 2
    assert loaded(done) == []


def test_a_wrong_device_lists_the_known(files: list[str]) -> None:
    done = call("benchmark", files[0], "--device", "hosst")
    assert done.returncode == 2
    assert "host" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["m.tflite", "--profile", "--device", "adb:1"], "--profile works on this machine only"),
        (["m.tflite", "m.onnx", "--profile"], "m.onnx: only .tflite files can be profiled"),
    ],
)
def test_files_without_a_profile_are_refused_before_anything_is_timed(
    words: list[str], said: str
) -> None:
    arguments = cli.parse(["tfprune", "benchmark", *words])
    with pytest.raises(OptionError, match=said):
        files_commands.benchmark_files(arguments)


def test_help_names_the_devices_and_what_can_be_measured(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli.parse(["tfprune", "benchmark", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for word in ("host", "adb:SERIAL", "ssh:HOST", ".onnx"):
        assert word in shown


def test_open_sizes_are_given_on_the_command_line(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((None, 4), name="x")
    model = keras.Model(inputs, keras.layers.Conv1D(3, 2)(inputs))
    path = str(tfprune.to_tflite(model, tmp_path / "m.tflite").path)
    done = call("benchmark", path, "--runs", "2")
    assert done.returncode == 2
    assert "or --input-shape x=1,N,4" in done.stderr
    done = call("benchmark", path, "--runs", "2", "--input-shape", "x=1,9,4", "--profile")
    assert done.returncode == 0, done.stderr
    assert "median" in done.stdout
    for wrong in ("x", "x=", "=1", "x=1,-2", "x=1,a"):
        with pytest.raises(OptionError, match="expected NAME=SIZES, such as tokens=1,128"):
            sizes_by_name([wrong])
