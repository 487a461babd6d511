"""Run folders: what is done is not done again, what is damaged is, what differs is refused."""

import json
import logging
import os
import tempfile
from pathlib import Path

import pytest

from tfprune.errors import DataError, OptionError, RecipeError, TfpruneError
from tfprune.pipeline.folder import LOG, RECIPE, STATE, RunFolder, check_folder, open_folder
from tfprune.recipe import parse_recipe

RECIPE_A = parse_recipe({"prune": {"sparsity": 0.5}})
RECIPE_B = parse_recipe({"prune": {"sparsity": 0.6}})


class Work:
    """Stages that write a file each and count how often they are done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[str] = []

    def run(self, resume: bool = False, identity: str = "same", stop: str = "") -> RunFolder:
        with open_folder(self.folder, RECIPE_A, {"data": identity}, resume=resume) as run:
            for name in ("one", "two", "three"):
                if name == stop:
                    break
                run.stage(name, (f"{name}.bin",), lambda name=name: self._do(run, name))
            return run

    def _do(self, run: RunFolder, name: str) -> dict[str, str]:
        self.calls.append(name)
        run.file(f"{name}.bin").write_bytes(name.encode())
        return {"said": name}


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path / "run")


def test_finished_stages_are_not_done_again(work: Work) -> None:
    work.run(stop="three")
    run = work.run(resume=True)
    assert work.calls == ["one", "two", "three"]
    assert {name: done.facts["said"] for name, done in run.done.items()} == {
        "one": "one",
        "two": "two",
        "three": "three",
    }
    state = json.loads((work.folder / STATE).read_text())
    assert state["running"] is None
    assert list(state["stages"]) == ["one", "two", "three"]


def test_a_stage_that_failed_is_done_again_and_named_while_it_runs(work: Work) -> None:
    with open_folder(work.folder, RECIPE_A, {}) as run, pytest.raises(ZeroDivisionError):
        run.stage("one", (), lambda: {"x": 1 / 0})
    state = json.loads((work.folder / STATE).read_text())
    assert state["running"] == "one"
    assert state["stages"] == {}


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_file_is_made_again_with_all_that_follows(
    work: Work, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    work.run()
    file = work.folder / "two.bin"
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"other")
    work.calls.clear()
    work.run(resume=True)
    assert work.calls == ["two", "three"]
    assert "two: two.bin gone or changed since; done again" in caplog.text


def test_a_stage_has_to_write_what_it_says(work: Work) -> None:
    with (
        open_folder(work.folder, RECIPE_A, {}) as run,
        pytest.raises(TfpruneError, match=r"one: one\.bin was not written"),
    ):
        run.stage("one", ("one.bin",), dict)


def test_a_run_is_not_written_over(work: Work) -> None:
    work.run(stop="two")
    with pytest.raises(OptionError, match="holds a run already, with 1 stage done. Give --resume"):
        work.run()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_with_nothing_done_may_begin_anew_by_another_recipe(work: Work, resume: bool) -> None:
    """So a fault that the first stage shows is mended and the run called again."""
    with open_folder(work.folder, RECIPE_B, {}) as run, pytest.raises(ZeroDivisionError):
        run.stage("one", (), lambda: {"x": 1 / 0})
    run = work.run(resume=resume)
    assert list(run.done) == ["one", "two", "three"]
    assert "sparsity = 0.5" in (work.folder / RECIPE).read_text()


def test_another_recipe_or_other_data_do_not_go_on(work: Work) -> None:
    work.run()
    with (
        pytest.raises(RecipeError, match="of another recipe"),
        open_folder(work.folder, RECIPE_B, {"data": "same"}, resume=True),
    ):
        pass
    with pytest.raises(DataError, match="the data of the run there is not the one given now"):
        work.run(resume=True, identity="other")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").touch()
    with (
        pytest.raises(OptionError, match=r"not empty \(thesis\.doc …\)"),
        open_folder(tmp_path, RECIPE_A, {}),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]
    with (
        pytest.raises(OptionError, match="a file. Name a folder"),
        open_folder(tmp_path / "thesis.doc", RECIPE_A, {}),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="lies below .*file, a file; name another place"):
        check_folder(tmp_path / "file" / "run", resume=False)
    if os.path.isdir("/proc"):
        with pytest.raises(OptionError, match="cannot be written to /proc"):
            check_folder("/proc/tfprune", resume=False)


def test_what_a_killed_run_was_writing_is_swept_away(work: Work) -> None:
    work.folder.mkdir()
    (work.folder / ".saving-abc_123").mkdir()
    (work.folder / ".saving-abc_123" / "model.keras").touch()
    # The very names that `write_atomic` gives.
    for name in ("state.json", "model.tflite", "report.html", "recipe.toml"):
        handle, _ = tempfile.mkstemp(dir=work.folder, prefix=f".{name}.")
        os.close(handle)
    work.run(resume=True)
    names = {path.name for path in work.folder.iterdir()}
    assert names == {STATE, RECIPE, LOG, ".lock", "one.bin", "two.bin", "three.bin"}


def test_one_process_at_a_time(work: Work) -> None:
    with (
        open_folder(work.folder, RECIPE_A, {}),
        pytest.raises(OptionError, match="another process is at work"),
        open_folder(work.folder, RECIPE_A, {}, resume=True),
    ):
        pass
    with open_folder(work.folder, RECIPE_A, {}, resume=True):
        pass


def test_a_spoilt_state_is_named(work: Work) -> None:
    work.run()
    (work.folder / STATE).write_text("{")
    with pytest.raises(OptionError, match="not what tfprune wrote"):
        work.run(resume=True)


def test_the_log_gets_everything_and_callers_what_they_asked_for(
    work: Work, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("tfprune").setLevel(logging.NOTSET)
    with open_folder(work.folder, RECIPE_A, {}):
        logging.getLogger("tfprune.anywhere").info("in the file only")
        logging.getLogger("tfprune.anywhere").warning("in both")
    text = (work.folder / LOG).read_text()
    assert "INFO in the file only" in text
    assert "WARNING in both" in text
    assert [record.getMessage() for record in caplog.records] == ["in both"]
    assert logging.getLogger("tfprune").propagate


def test_the_recipe_is_kept_as_resolved(work: Work) -> None:
    work.run()
    assert "sparsity = 0.5" in (work.folder / RECIPE).read_text()
