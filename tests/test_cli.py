"""The command: what it prints, how it ends, how fast it answers."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tfprune
from tests.commands.calls import call, loaded
from tfprune import cli
from tfprune.commands import run
from tfprune.errors import ConversionError, GateError, OptionError
from tfprune.utils.interrupts import Terminated

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


def cpu_seconds(words: list[str], environment: dict[str, str]) -> float:
    """Return the CPU time of a child, which other work lengthens less than it does a clock."""
    before = os.times()
    subprocess.run([sys.executable, *words], capture_output=True, check=False, env=environment)
    after = os.times()
    return (
        after.children_user + after.children_system - before.children_user - before.children_system
    )


@pytest.mark.parametrize("words", [["--help"], ["recipes"], FAULTY], ids=str)
def test_light_commands_cost_no_more_than_four_imports_of_numpy(
    words: list[str], tmp_path: Path
) -> None:
    # Compiled files may be kept, as those of an installed package are.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    rounds = [
        (
            cpu_seconds(["-m", "tfprune.cli", *words], environment),
            cpu_seconds(["-c", "import numpy"], environment),
        )
        for _ in range(4)
    ]
    ours, numpy = map(min, zip(*rounds, strict=True))
    assert ours < 4 * numpy


def test_the_installed_command_is_this_one() -> None:
    script = Path(sys.executable).with_name("tfprune")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"tfprune {tfprune.__version__}\n"


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
        monkeypatch.setattr(run, "load_tensorflow", lambda: None)  # It is for whole processes.
        monkeypatch.setattr("tfprune.pipeline.carry_out", interrupted)
    assert cli.execute(arguments) == 1
    errors = capsys.readouterr().err
    assert "tfprune: interrupted" in errors
    assert ("Resume with: tfprune run quickstart" in errors) == (command[0] == "run")
    assert "Failed to convert" not in errors
    assert signal.getsignal(signal.SIGINT) is handler
