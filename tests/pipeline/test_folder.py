"""Run folders: what is done is not done again, what is damaged is, what differs is refused."""

import json
import logging
import os
import tempfile
from pathlib import Path

import pytest

from tfprune.errors import DataError, OptionError, RecipeError, TfpruneError, TrainingError
from tfprune.pipeline import folder as run_folder
from tfprune.pipeline.folder import (
    LOG,
    RECIPE,
    STATE,
    RunFolder,
    check_run_folder,
    facts_of,
    open_folder,
    wait_for_run,
)
from tfprune.recipe import parse_recipe
from tfprune.recipe.recipe import tables_sha256
from tfprune.recipe.toml import to_toml

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


def test_finished_stages_are_not_run_again(work: Work) -> None:
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


def test_a_failed_stage_is_run_again_and_named_while_it_runs(work: Work) -> None:
    with open_folder(work.folder, RECIPE_A, {}) as run, pytest.raises(ZeroDivisionError):
        run.stage("one", (), lambda: {"x": 1 / 0})
    state = json.loads((work.folder / STATE).read_text())
    assert state["running"] == "one"
    assert state["stages"] == {}


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_stage_with_a_damaged_file_and_all_after_it_run_again(
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
    assert "two: two.bin missing or changed; runs again" in caplog.text


def test_a_stage_that_does_not_write_its_files_is_an_error(work: Work) -> None:
    with (
        open_folder(work.folder, RECIPE_A, {}) as run,
        pytest.raises(TfpruneError, match=r"one: one\.bin was not written"),
    ):
        run.stage("one", ("one.bin",), dict)


def test_a_run_is_not_overwritten(work: Work) -> None:
    work.run(stop="two")
    with pytest.raises(
        OptionError, match="contains a run already, with 1 stage done. Give --resume"
    ):
        work.run()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_finished_stages_may_start_with_another_recipe(
    work: Work, resume: bool
) -> None:
    """After an error in the first stage, the recipe is corrected and the run called again."""
    with open_folder(work.folder, RECIPE_B, {}) as run, pytest.raises(ZeroDivisionError):
        run.stage("one", (), lambda: {"x": 1 / 0})
    run = work.run(resume=resume)
    assert list(run.done) == ["one", "two", "three"]
    assert "sparsity = 0.5" in (work.folder / RECIPE).read_text()


def test_a_run_is_not_resumed_with_another_recipe_or_other_data(work: Work) -> None:
    work.run()
    with (
        pytest.raises(RecipeError, match="has another recipe"),
        open_folder(work.folder, RECIPE_B, {"data": "same"}, resume=True),
    ):
        pass
    with pytest.raises(DataError, match="the data of the run there differs from the one given now"):
        work.run(resume=True, identity="other")


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        # What an earlier version wrote, in which these defaults were 0.01 and "adam" …
        ({"train": {"optimizer": "adam"}}, {"train": {}}, True),
        (
            {"quantize": {"scheme": "auto", "max_drop": 0.01}},
            {"quantize": {"scheme": "auto"}},
            True,
        ),
        # … which had no such key, or has one no more, or another default.
        ({"prune": {"power": None}}, {"prune": {}}, True),
        ({"prune": {"power": None}}, {"prune": {"power": 2.0}}, False),
        ({"prune": {"flavor": 3}}, {"prune": {}}, False),
        ({"prune": {"epochs": 11}}, {"prune": {}}, False),
        ({"train": {"optimizer": "sgd"}}, {"train": {}}, False),
        ({"prune": {}}, {"prune": {}, "shrink": {"target": {"macs": 0.5}}}, False),
    ],
    ids=str,
)
def test_a_run_of_a_version_with_other_keys_is_resumed(
    tmp_path: Path, then: dict, now: dict, same: bool
) -> None:
    tables = parse_recipe({name: {} for name in then if name != "quantize"}).to_dict()
    for name, keys in then.items():
        tables[name] = {**tables.get(name, {}), **keys}
        tables[name] = {key: value for key, value in tables[name].items() if value is not None}
    if "quantize" in then:
        tables["quantize"] = parse_recipe(now).to_dict()["quantize"] | then["quantize"]
    with open_folder(tmp_path, parse_recipe(now), {}) as run:
        run.stage("one", (), dict)
    (tmp_path / RECIPE).write_text(to_toml(tables))
    state = json.loads((tmp_path / STATE).read_text())
    state["identity"]["recipe"] = tables_sha256(tables)
    del state["sha256"]
    (tmp_path / STATE).write_text(json.dumps(state))
    if not same:
        with pytest.raises(RecipeError, match="has another recipe"):
            open_folder(tmp_path, parse_recipe(now), {}, resume=True).__enter__()
        return
    for _ in range(2):
        with open_folder(tmp_path, parse_recipe(now), {}, resume=True) as run:
            run.stage("two", (), dict)
            assert list(run.done) == ["one", "two"]
    (tmp_path / RECIPE).write_text(to_toml({**tables, "measure": {"runs": 3}}))
    with pytest.raises(RecipeError, match="has another recipe"):
        open_folder(tmp_path, parse_recipe(now), {}, resume=True).__enter__()


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").touch()
    with (
        pytest.raises(OptionError, match=r"not empty \(thesis\.doc …\)"),
        open_folder(tmp_path, RECIPE_A, {}),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]
    with (
        pytest.raises(OptionError, match="a file. Give a folder"),
        open_folder(tmp_path / "thesis.doc", RECIPE_A, {}),
    ):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="is below .*file, a file; choose another path"):
        check_run_folder(tmp_path / "file" / "run", resume=False)
    if os.path.isdir("/proc"):
        with pytest.raises(OptionError, match="cannot write to /proc"):
            check_run_folder("/proc/tfprune", resume=False)


def test_unfinished_files_of_a_killed_run_are_removed(work: Work) -> None:
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


def test_a_folder_is_used_by_one_process_at_a_time(work: Work) -> None:
    with (
        open_folder(work.folder, RECIPE_A, {}),
        pytest.raises(OptionError, match="another process is using it"),
        open_folder(work.folder, RECIPE_A, {}, resume=True),
    ):
        pass
    with open_folder(work.folder, RECIPE_A, {}, resume=True):
        pass


def changed(text: str, **fields: object) -> str:
    """The state with some of its fields changed, by a dot for what lies inside."""
    state = json.loads(text)
    for place, value in fields.items():
        *above, name = place.split("__")
        inner = state
        for key in above:
            inner = inner[key]
        inner[name] = value
    return json.dumps(state)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: "{",
        lambda text: "[]",
        lambda text: "3",
        lambda text: "{}",
        lambda text: "[" * 100_000,
        lambda text: "1" * 5000,
        lambda text: text[: len(text) // 2],
        lambda text: text.replace("two", "tow"),
        lambda text: changed(text, stages=None),
        lambda text: changed(text, stages=[]),
        lambda text: changed(text, stages__one=3),
        lambda text: changed(text, stages__one={}),
        lambda text: changed(text, stages__one__more=3),
        lambda text: changed(text, stages__one__files=[1]),
        lambda text: changed(text, stages__one__files={"one.bin": 3}),
        lambda text: changed(text, stages__one__seconds="long"),
        lambda text: changed(text, stages__one__seconds=float("nan")),
        lambda text: changed(text, stages__one__seconds=10**400),
        lambda text: changed(text, stages__one__facts=3),
        lambda text: changed(text, stages__one__facts={"said": "another"}),
        lambda text: changed(text, identity=3),
        lambda text: changed(text, identity={"data": ["same"]}),
        lambda text: changed(text, running=["one"]),
        lambda text: changed(text, more=1),
    ],
    ids=range(25),
)
@pytest.mark.parametrize("resume", [False, True])
def test_a_damaged_state_is_a_one_line_error_and_nothing_is_lost(work: Work, spoil, resume) -> None:
    work.run()
    path = work.folder / STATE
    path.write_text(spoil(path.read_text()))
    before = {file.name: file.read_bytes() for file in work.folder.iterdir()}
    with pytest.raises(OptionError, match=r"state\.json: not what tfprune wrote \(") as caught:
        work.run(resume=resume)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert {file.name: file.read_bytes() for file in work.folder.iterdir()} == before


@pytest.mark.parametrize("kind", ["bytes", "folder", "pipe", "broken link", "round link"])
def test_a_state_that_is_not_text_is_a_one_line_error(work: Work, kind: str) -> None:
    work.run()
    path = work.folder / STATE
    path.unlink()
    if kind == "bytes":
        path.write_bytes(b"\xff\xfe\xff")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("gone" if kind == "broken link" else STATE)
    with pytest.raises(OptionError, match=r"state\.json: not what tfprune wrote"):
        work.run(resume=True)


@pytest.mark.parametrize(
    ("name", "target"), [("dangling", "gone"), ("round", "round"), ("file", "a.txt")]
)
def test_a_link_that_is_no_folder_is_refused(tmp_path: Path, name: str, target: str) -> None:
    (tmp_path / "a.txt").write_text("thesis")
    (tmp_path / name).symlink_to(target)
    for resume in (False, True):
        for folder in (tmp_path / name, tmp_path / name / "below"):
            with pytest.raises(OptionError, match=rf"{name}.*(Give a folder|choose another path)"):
                check_run_folder(folder, resume=resume)
    assert (tmp_path / "a.txt").read_text() == "thesis"
    assert sorted(os.listdir(tmp_path)) == sorted({"a.txt", name})


def test_a_link_to_a_folder_is_accepted(work: Work, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    work.folder.symlink_to("disk")
    work.run(stop="three")
    assert list(work.run(resume=True).done) == ["one", "two", "three"]
    assert (tmp_path / "disk" / STATE).is_file()


@pytest.mark.parametrize("name", [LOG, RECIPE, ".lock"])
def test_a_folder_in_place_of_another_file_of_the_run_is_refused(work: Work, name: str) -> None:
    work.run()
    (work.folder / name).unlink()
    (work.folder / name).mkdir()
    with pytest.raises(OptionError, match=rf"{name} is a folder"):
        work.run(resume=True)


def test_a_state_without_hashes_is_resumed(work: Work) -> None:
    work.run(stop="three")
    state = json.loads((work.folder / STATE).read_text())
    for name in ("sha256", "versions"):
        del state[name]
    (work.folder / STATE).write_text(json.dumps(state))
    work.calls.clear()
    work.run(resume=True)
    assert work.calls == ["three"]


def interrupted_training(work: Work) -> None:
    """Leave a run with one stage done and the training of the next unfinished."""
    work.run(stop="two")
    with open_folder(work.folder, RECIPE_A, {"data": "same"}, resume=True) as run:
        run.stage("one", ("one.bin",), dict)
        with pytest.raises(ZeroDivisionError):
            run.stage("two", (), lambda: run.training("two").mkdir() or {"x": 1 / 0})


def test_the_training_of_an_unfinished_stage_is_kept_until_it_is_done(work: Work) -> None:
    interrupted_training(work)
    with open_folder(work.folder, RECIPE_A, {"data": "same"}, resume=True) as run:
        assert run.training("two").is_dir()
        run.stage("two", (), dict)
        assert not run.training("two").exists()


def test_the_training_after_a_changed_file_is_removed(work: Work) -> None:
    interrupted_training(work)
    (work.folder / "one.bin").write_bytes(b"other")
    with open_folder(work.folder, RECIPE_A, {"data": "same"}, resume=True) as run:
        run.stage("one", ("one.bin",), lambda: work._do(run, "one"))
        assert not run.training("two").exists()


@pytest.mark.parametrize(
    ("recipe", "resume", "kept"),
    [(RECIPE_A, True, True), (RECIPE_A, False, False), (RECIPE_B, True, False)],
)
def test_the_training_of_a_first_stage_is_of_its_recipe(
    tmp_path: Path, recipe, resume: bool, kept: bool
) -> None:
    with open_folder(tmp_path, RECIPE_A, {}) as run, pytest.raises(ZeroDivisionError):
        run.stage("one", (), lambda: run.training("one").mkdir() or {"x": 1 / 0})
    with open_folder(tmp_path, recipe, {}, resume=resume) as run:
        assert run.training("one").exists() == kept


def test_nothing_is_stored_of_a_run_that_is_not_kept(tmp_path: Path) -> None:
    with open_folder(tmp_path, RECIPE_A, {}, kept=False) as run:
        assert run.training("one") is None


def test_the_last_stage_of_another_process_is_waited_for(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "POLL_S", 0.01)
    monkeypatch.setattr(run_folder, "PATIENCE_S", 0.05)
    work.run(stop="three")
    wait_for_run(work.folder, "two")
    with pytest.raises(TrainingError, match="the first worker ended before the stage three"):
        wait_for_run(work.folder, "three")


def test_the_facts_of_a_stage_are_read_from_its_folder(work: Work, tmp_path: Path) -> None:
    work.run(stop="two")
    assert facts_of(work.folder, "one") == {"said": "one"}
    assert facts_of(work.folder, "two") == {}
    assert facts_of(tmp_path / "none", "one") == {}


def test_a_fact_that_is_no_number_is_kept(work: Work) -> None:
    with open_folder(work.folder, RECIPE_A, {}) as run:
        run.stage("one", (), lambda: {"curves": {"val_loss": [0.5, float("nan")]}})
    with open_folder(work.folder, RECIPE_A, {}, resume=True) as run:
        assert str(run.done["one"].facts["curves"]["val_loss"]) == "[0.5, nan]"


def test_changed_versions_are_a_warning_that_names_both(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def go_on(keras: str) -> list[str]:
        caplog.clear()
        versions = {"keras": keras, "tensorflow": "2.21.0"}
        with open_folder(tmp_path, RECIPE_A, {}, versions=versions, resume=True) as run:
            run.stage("one", (), dict)
        return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]

    assert go_on("3.10.0") == []
    assert go_on("3.10.0") == []
    for _ in range(2):
        (said,) = go_on("3.15.1")
        assert said.startswith(
            "the run was started with keras 3.10.0, now 3.15.1: finished stages are kept"
        )
    assert go_on("3.10.0") == []


def test_the_log_has_all_levels_and_callers_get_theirs(
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


def test_the_recipe_is_stored_with_all_defaults(work: Work) -> None:
    work.run()
    assert "sparsity = 0.5" in (work.folder / RECIPE).read_text()
