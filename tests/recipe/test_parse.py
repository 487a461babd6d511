"""Parsing: every fault at once, each with file, table, key, received, allowed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tfprune.errors import RecipeError
from tfprune.recipe import load_recipe, parse_recipe


def faults(tables: dict, *settings: str) -> list[str]:
    with pytest.raises(RecipeError) as error:
        parse_recipe(tables, settings, name="r.toml")
    return str(error.value).splitlines()


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        (
            {"prune": {"sparsity": 80}},
            "r.toml [prune] sparsity: expected a number in [0, 1). Received 80. Did you mean 0.8?",
        ),
        (
            {"prune": {"begin_step": 9, "end_step": 5}},
            "r.toml [prune] begin_step: expected less than end_step = 5. Received 9. Swap them?",
        ),
        (
            {"distil": {}},
            'r.toml [distil]: unknown table "distil". Known: cluster, data, gate, measure, model, '
            "prune, quantize, shrink, task, train.",
        ),
        ({"gate": 3}, "r.toml gate: expected a table. Received 3."),
        (
            {"quantize": {"scheme": "float16", "calibration": 9}},
            "r.toml [quantize] calibration: is only for int8, int16x8 and 4 bits, not float16. "
            "Remove it.",
        ),
        (
            {"quantize": {"scheme": "float16", "rounding": "learned"}},
            "r.toml [quantize] rounding: is only for weights of 8 or 4 bits, not float16. "
            "Remove it.",
        ),
        (
            {"quantize": {"scheme": "float16", "io": "int8"}},
            "r.toml [quantize] io: expected float32 with scheme = float16. Received int8.",
        ),
        (
            {"model": {"source": "convnet"}},
            "r.toml [model] source: convnet is untrained. Add a table [train].",
        ),
    ],
)
def test_an_error_is_one_line_with_place_value_and_fix(tables: dict, line: str) -> None:
    assert faults(tables) == [line]


def test_an_unknown_key_names_the_nearest() -> None:
    (line,) = faults({"prune": {"sparsty": 0.8}})
    assert line.startswith("r.toml [prune] sparsty: unknown key. Known: ")
    assert line.endswith("Did you mean sparsity?")


def test_a_missing_required_key_is_an_error() -> None:
    (line,) = faults({"data": {"limit": 5}})
    assert line.startswith("r.toml [data] source: required: a built-in data set (cifar10,")


def test_all_faults_are_listed_at_once() -> None:
    lines = faults(
        {
            "prune": {"sparsity": 80, "begin_step": 9, "end_step": 5, "scor": 1},
            "prun": {},
            "data": {"source": "digit"},
        },
        "train.epochs=0",
        "nonsense",
    )
    starts = [
        "--set nonsense: expected table.key=value",
        "r.toml [prune] sparsity: ",
        "r.toml [prune] scor: ",
        "r.toml [prune] begin_step: ",
        "r.toml [prun]: ",
        "r.toml [data] source: ",
        "--set train.epochs: ",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_a_refused_value_does_not_make_its_neighbors_faulty() -> None:
    (line,) = faults({"prune": {"sparsity": 95, "initial_sparsity": 0.85}})
    assert "Did you mean 0.95?" in line


@pytest.mark.parametrize(
    ("setting", "table", "key", "value"),
    [
        ("prune.sparsity=0.9", "prune", "sparsity", 0.9),
        ("prune.sparsity=.9", "prune", "sparsity", 0.9),
        ("train.learning_rate=1.", "train", "learning_rate", 1.0),
        ("prune.learning_rate=1e-4", "prune", "learning_rate", 1e-4),
        ("train.optimizer=sgd", "train", "optimizer", "sgd"),
        ('train.optimizer="sgd"', "train", "optimizer", "sgd"),
        ("prune.only=conv.*", "prune", "only", ("conv.*",)),
        ('prune.only=["a", "b"]', "prune", "only", ("a", "b")),
        ("prune.allocation.conv1=0.5", "prune", "allocation", {"conv1": 0.5}),
        ("prune.allocation={conv1 = 0.5}", "prune", "allocation", {"conv1": 0.5}),
    ],
)
def test_settings_override_the_file(setting: str, table: str, key: str, value: object) -> None:
    recipe = parse_recipe({"prune": {"sparsity": 0.1, "allocation": "erk"}}, [setting])
    assert getattr(getattr(recipe, table), key) == value


@pytest.mark.parametrize(
    ("setting", "start"),
    [
        ("prune=3", "--set prune=3: expected table.key=value"),
        ('prune.score="magnitude', "--set prune.score: not a TOML value: "),
        ("prune.sparsity=80", "--set prune.sparsity: expected a number in [0, 1). Received 80."),
        ("prun.sparsity=0.8", '--set prun.sparsity: unknown table "prun". '),
        ("prune.sparsity.x=0.8", "--set prune.sparsity.x: expected a number in [0, 1)"),
        ("prune.score=", "--set prune.score: not a TOML value: "),
    ],
)
def test_a_faulty_setting_is_named_as_it_was_given(setting: str, start: str) -> None:
    (line,) = faults({}, setting)
    assert line.startswith(start)


def test_paths_are_relative_to_the_recipe_and_in_settings_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "there" / "d.npz").touch()
    (tmp_path / "here" / "m.keras").touch()
    (tmp_path / "there" / "r.toml").write_text('[data]\nsource = "d.npz"\n')
    monkeypatch.chdir(tmp_path / "here")
    recipe = load_recipe("../there/r.toml", ["model.source=m.keras"])
    assert recipe.data is not None
    assert recipe.model is not None
    assert Path(recipe.data.source).samefile(tmp_path / "there" / "d.npz")
    assert Path(recipe.model.source).samefile(tmp_path / "here" / "m.keras")


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('[model]\nsource = "gone.keras"\n')
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert str(error.value) == (
        f"{path} [model] source: no such file: {tmp_path / 'gone.keras'}. "
        "Paths are relative to the folder of the recipe."
    )


def test_texts_that_are_not_recipes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(tmp_path / "gone.toml")
    path = tmp_path / "r.toml"
    path.write_text("[prune\n")
    with pytest.raises(RecipeError, match=r"r\.toml: not TOML: .*line 1"):
        load_recipe(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(path)


def test_parsing_loads_no_tensorflow() -> None:
    code = (
        "import sys; from tfprune.recipe import find_recipe, load_recipe; "
        "load_recipe(find_recipe('quickstart')); "
        "print([m for m in ('tensorflow', 'keras', 'tf_keras', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
