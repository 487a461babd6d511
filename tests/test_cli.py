"""The command: what it prints, how it ends, how fast it answers."""

import errno
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tfprune
from tfprune import cli
from tfprune.errors import ConversionError, GateError, OptionError
from tfprune.recipe import shipped_recipes
from tfprune.utils.interrupts import Terminated

HEAVY = ("tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "sklearn", "rich")


def call(*words: str, code: str = "") -> subprocess.CompletedProcess:
    """Run the command in a process of its own, which lists the heavy modules it loaded."""
    program = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', *"
        f"[m for m in {HEAVY} if m in sys.modules], file=sys.stderr))\n"
        f"{code}\n"
        "from tfprune.cli import main\n"
        "main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def loaded(done: subprocess.CompletedProcess) -> list[str]:
    return done.stderr.splitlines()[-1].split()[1:]


FAULTY = ["run", "quickstart", "--set", "prune.sparsity=80"]


@pytest.mark.parametrize(
    ("words", "code", "shown"),
    [
        (["--help"], 0, "commands:"),
        (["run", "--help"], 0, "--resume"),
        (["--version"], 0, f"tfprune {tfprune.__version__}"),
        (["recipes"], 0, "quickstart"),
        (["recipes", "quickstart"], 0, "[prune]"),
        (["recipes", "--keys"], 0, "sparsity: fraction of zeros at the end"),
        (["recipes", "--keys"], 0, "gradient, magnitude, movement, random, taylor"),
        ([], 2, "required: COMMAND"),
        (["rn"], 2, "invalid choice: 'rn'"),
        (["recipes", "quikstart"], 2, "Did you mean quickstart?"),
        (FAULTY, 2, "Received 80. Did you mean 0.8?"),
    ],
    ids=str,
)
def test_light_commands_load_no_tensorflow(words: list[str], code: int, shown: str) -> None:
    done = call(*words)
    assert done.returncode == code
    assert shown in done.stdout + done.stderr
    assert loaded(done) == []


@pytest.mark.parametrize("words", [["--help"], ["recipes"], FAULTY], ids=str)
def test_light_commands_take_less_than_half_a_second(words: list[str]) -> None:
    # CPU time of the child, which other work on the machine does not lengthen as it does a clock.
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "tfprune.cli", *words], capture_output=True, check=False
        )
        after = os.times()
        seconds.append(
            after.children_user + after.children_system
            - before.children_user - before.children_system
        )  # fmt: skip
    assert min(seconds) < 0.5


def test_the_installed_command_is_this_one() -> None:
    script = Path(sys.executable).with_name("tfprune")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"tfprune {tfprune.__version__}\n"


def test_every_shipped_recipe_is_listed_and_printed(capsys: pytest.CaptureFixture) -> None:
    assert cli.execute(cli.parse(["tfprune", "recipes"])) == 0
    listed = capsys.readouterr().out
    for name, file in shipped_recipes().items():
        assert f"{name} " in listed
        assert cli.execute(cli.parse(["tfprune", "recipes", name])) == 0
        assert capsys.readouterr().out.rstrip() == file.read_text().rstrip()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OptionError("wrong"), 2),
        (ConversionError("failed"), 1),
        (GateError("missed"), 1),
        (KeyboardInterrupt(), 1),
        (Terminated(signal.SIGTERM), 143),
    ],
    ids=str,
)
def test_errors_become_one_line_and_a_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture
) -> None:
    arguments = cli.parse(["tfprune", "recipes"])

    def fail(_: object) -> int:
        raise error

    arguments.work = fail
    assert cli.execute(arguments) == code
    said = str(error)
    if isinstance(error, KeyboardInterrupt):
        said = f"interrupted by {said}" if said else "interrupted"
    assert capsys.readouterr().err == f"tfprune: {said}\n"


def test_an_unexpected_error_is_one_line_and_a_file(capsys: pytest.CaptureFixture) -> None:
    arguments = cli.parse(["tfprune", "recipes"])
    arguments.work = lambda _: {}["gone"]
    assert cli.execute(arguments) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "tfprune: unexpected KeyError: 'gone'"
    path = Path(second.removeprefix("tfprune: the traceback is in "))
    assert "KeyError: 'gone'" in path.read_text()
    path.unlink()


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture) -> None:
    arguments = cli.parse(["tfprune", "recipes"])

    def fail(_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/model.tflite")

    arguments.work = fail
    assert cli.execute(arguments) == 1
    shown = "runs/model.tflite: No space left on device; name another place"
    assert capsys.readouterr().err == f"tfprune: {shown}\n"


def test_warnings_are_one_line_each(capsys: pytest.CaptureFixture) -> None:
    arguments = cli.parse(["tfprune", "recipes"])

    def warn(_: object) -> int:
        import warnings

        warnings.warn("too short", tfprune.errors.ScheduleWarning, stacklevel=1)
        return 0

    arguments.work = warn
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert cli.execute(arguments) == 0
    assert capsys.readouterr().err == "tfprune: warning: too short\n"


def test_the_messages_of_tensorflow_at_start_are_hidden(tmp_path: Path) -> None:
    module = "import tensorflow as tf\ndef load():\n    return [tf.constant(1).numpy()]\n"
    (tmp_path / "greeted.py").write_text(module)
    setting = ["--set", "data.source=greeted:load", "--out", str(tmp_path / "run")]
    done = call(
        "run", "quickstart", *setting, code=f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("LOADED")]
    assert line.startswith("tfprune: [data] greeted:load: expected (train, test)")


def test_the_printed_command_to_resume_can_be_run() -> None:
    line = ["tfprune", "run", "my recipe.toml", "--set", 'prune.only=["a"]', "--out", "a b"]
    again = cli._resume_command(cli.parse(line))
    parsed = cli.parse(shlex.split(again))
    assert parsed.recipe == "my recipe.toml"
    assert parsed.set == ['prune.only=["a"]']
    assert parsed.out == "a b"
    assert parsed.resume


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two `.tflite` files."""
    import keras

    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    x = np.random.default_rng(0).random((20, 8), np.float32)
    for scheme in ("float32", "int8"):
        tfprune.to_tflite(model, folder / f"{scheme}.tflite", scheme=scheme, calibration=x)
    return [str(folder / "float32.tflite"), str(folder / "int8.tflite")]


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
        cli.benchmark_files(arguments)


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
            cli._shape(wrong)


@pytest.mark.parametrize("command", [["recipes"], ["run", "quickstart"]])
def test_ctrl_c_inside_a_library_ends_the_command(command, monkeypatch, capsys, tmp_path) -> None:
    def interrupted(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise TypeError("Failed to convert elements to Tensor") from None

    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGINT)
    arguments = cli.parse(["tfprune", *command])
    if command == ["recipes"]:
        arguments.work = interrupted
    else:
        monkeypatch.setattr(cli, "_load_tensorflow", lambda: None)  # It is for whole processes.
        monkeypatch.setattr("tfprune.pipeline.carry_out", interrupted)
    assert cli.execute(arguments) == 1
    errors = capsys.readouterr().err
    assert "tfprune: interrupted" in errors
    assert ("Resume with: tfprune run quickstart" in errors) == (command[0] == "run")
    assert "Failed to convert" not in errors
    assert signal.getsignal(signal.SIGINT) is handler
