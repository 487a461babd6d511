"""Wrong input is a one-line error with the fix and exit code 2, before any work."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HEAVY = ("tensorflow", "keras", "tf_keras")


def run(*words: str, recipe: str = "quickstart") -> tuple[int, list[str], bool]:
    """Return exit code, the lines of complaint, and whether TensorFlow or Keras was loaded."""
    program = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('LOADED', *[m for m in {HEAVY} if m in sys.modules]))\n"
        "from tfprune.cli import main\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "run", recipe, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("tfprune: ")]
    return done.returncode, lines, done.stdout.splitlines()[-1] != "LOADED"


def settings(*given: str) -> list[str]:
    return [word for setting in given for word in ("--set", setting)]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("prune.sparsty=0.8", ["--set prune.sparsty: unknown key", "Did you mean sparsity?"]),
        ("prune.sparsity=80", ["Received 80. Did you mean 0.8?"]),
        ("prune.score=magnitud", ["Did you mean magnitude?"]),
        ("model.source=gone.keras", ["no such file", "gone.keras"]),
        ("data.source=gone.npz", ["no such file", "gone.npz"]),
        ("data.source=digit", ["Did you mean digits?"]),
        ("data.source=gone_module:load", ["no module named 'gone_module'"]),
        ("distil.alpha=0.5", ['unknown table "distil"', "Known: cluster, data, gate"]),
    ],
)
def test_faults_of_a_recipe_are_reported_before_anything_is_loaded(
    setting: str, said: list[str], tmp_path: Path
) -> None:
    code, lines, loaded = run(*settings(setting), "--out", str(tmp_path / "run"))
    assert code == 2
    assert len(lines) == 1
    for text in said:
        assert text in lines[0]
    assert not loaded
    assert not (tmp_path / "run").exists()


def test_a_file_with_faults_names_itself_table_and_key(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        '[model]\nsource = "convnet"\n[data]\nsource = "digits"\n[train]\nepoch = 3\n'
        "[prune]\nbegin_step = 500\nend_step = 100\n"
    )
    code, lines, loaded = run(recipe=str(recipe))
    assert code == 2
    assert lines == [
        f"tfprune: {recipe} [train] epoch: unknown key. Known: backup_steps, "
        "batch_size, callbacks, class_weight, early_stopping, epochs, fit, learning_rate, "
        "optimizer, precision, seed, steps_per_epoch, strategy. Did you mean epochs?",
        f"tfprune: {recipe} [prune] begin_step: expected less than end_step = 100. Received 500. "
        "Swap them?",
    ]
    assert not loaded
    code, lines, loaded = run(recipe=str(tmp_path / "quikstart.toml"))
    assert code == 2
    assert lines[0].endswith("Did you mean quickstart?")
    assert not loaded


def arrays(folder: Path, **changes: np.ndarray) -> str:
    rng = np.random.default_rng(0)
    content = {
        "x_train": rng.random((40, 8, 8, 1), np.float32),
        "y_train": np.arange(40) % 3,
        "x_test": rng.random((10, 8, 8, 1), np.float32),
        "y_test": np.arange(10) % 3,
    }
    np.savez(folder / "data.npz", **(content | changes))
    return f"data.source={folder / 'data.npz'}"


WITH_NAN = np.full((40, 8, 8, 1), np.nan, np.float32)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"x_train": np.zeros((0, 8, 8, 1)), "y_train": np.zeros(0, int)},
            ["the train set is empty", "Give at least one example"],
        ),
        ({"x_train": WITH_NAN}, ["examples hold NaN", "Drop or fill them"]),
        ({"y_test": np.arange(10) - 1}, ["label -1 at example 0", "Class numbers are 0, 1, 2"]),
        ({"y_test": np.arange(9)}, ["10 examples but 9 labels"]),
        ({"x_test": np.zeros((10, 8, 8, 3))}, ["examples of shape (8, 8, 3)"]),
    ],
    ids=["empty", "nan", "negative-label", "one-label-less", "other-shape"],
)
def test_faults_of_the_data_are_reported(changes: dict, said: list[str], tmp_path: Path) -> None:
    code, lines, loaded = run(*settings(arrays(tmp_path, **changes)), "--out", str(tmp_path / "r"))
    assert code == 2
    assert len(lines) == 1
    for text in said:
        assert text in lines[0]
    assert not loaded


def test_a_truncated_model_file_is_refused(tmp_path: Path) -> None:
    import keras

    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)]).save(
        path
    )
    path.write_bytes(path.read_bytes()[:-200])
    code, lines, loaded = run(*settings(f"model.source={path}"), "--out", str(tmp_path / "r"))
    assert code == 2
    assert len(lines) == 1
    assert f"{path}: truncated, or not a .keras file" in lines[0]
    assert "Copy or save the model again." in lines[0]
    assert not loaded


@pytest.mark.slow
def test_faults_that_need_the_model_are_reported(tmp_path: Path) -> None:
    import keras

    path = tmp_path / "model.keras"
    keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3, name="head")],
        name="small",
    ).save(path)
    small = f"model.source={path}"
    for number, (setting, said) in enumerate(
        [
            (arrays(tmp_path, y_train=np.arange(40) % 5), "the model 'small' has 3 outputs"),
            ("prune.only=hed", "head"),
        ]
    ):
        words = settings(small, setting) if number == 0 else settings(
            small, arrays(tmp_path), setting
        )  # fmt: skip
        code, lines, _ = run(*words, "--out", str(tmp_path / f"run{number}"))
        assert code == 2
        assert len(lines) == 1
        assert said in lines[0]
        assert "epoch" not in (tmp_path / f"run{number}" / "run.log").read_text()


def test_a_folder_with_another_run_is_refused(tmp_path: Path) -> None:
    done = '{"train": {"seconds": 1, "files": {}, "facts": {}}}'
    state = f'{{"identity": {{}}, "running": null, "stages": {done}}}'
    (tmp_path / "state.json").write_text(state)
    code, lines, loaded = run("--out", str(tmp_path))
    assert code == 2
    assert lines == [
        f"tfprune: {tmp_path}: contains a run already, with 1 stage done. Give --resume to resume "
        "it, or another folder."
    ]
    assert not loaded


def damaged_state(folder: Path) -> Path:
    folder.mkdir()
    (folder / "state.json").write_text('{"identity": 3, "stages": {"train": [1e999]}}')
    return folder


def link(folder: Path) -> Path:
    folder.symlink_to("gone")
    return folder


def round_link(folder: Path) -> Path:
    folder.symlink_to(folder.name)
    return folder


def link_to_a_file(folder: Path) -> Path:
    folder.with_name("thesis.txt").write_text("thesis")
    folder.symlink_to("thesis.txt")
    return folder


@pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["anew", "resume"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (damaged_state, "state.json: not what tfprune wrote (identity: expected a table."),
        (link, "out: a broken link. Give a folder for the run."),
        (round_link, "out: a broken link. Give a folder for the run."),
        (link_to_a_file, "out: a file. Give a folder for the run."),
    ],
)
def test_a_folder_that_cannot_hold_a_run_is_refused(
    make, said: str, resume: list[str], tmp_path: Path
) -> None:
    out = make(tmp_path / "out")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    code, lines, loaded = run("--out", str(out), *resume)
    assert code == 2
    assert len(lines) == 1
    assert said in lines[0]
    assert not loaded
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
