"""The run folder: the finished stages, with the hash of every file they wrote.

A stage is done once `state.json` says so, which is written after the files of the stage. A stage
that is killed earlier runs again; a training in it goes on with the epoch that it was in.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfprune.errors import DataError, OptionError, RecipeError, TfpruneError, TrainingError
from tfprune.recipe.recipe import Recipe, tables_sha256
from tfprune.recipe.toml import to_toml
from tfprune.storage.files import check_destination, parse_json, read_bytes, write_atomic
from tfprune.storage.records import record

try:
    import fcntl
except ImportError:  # Windows has no flock, so two runs in one folder are not detected there
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("tfprune.run")

STATE = "state.json"
RECIPE = "recipe.toml"
LOG = "run.log"
NATIVE_LOG = "native.log"
LOCK = ".lock"
EARLY = {RECIPE, LOG, NATIVE_LOG, LOCK, "traceback.txt"}
"""Files that may exist before `state.json`."""
UNFINISHED = re.compile(r"\.saving-\w+$|\..+\.(json|toml|keras|tflite|md|html)\.\w{8}$")
"""Temporary names of files, which a killed run may leave."""
TEST_SHA256 = "test_sha256"
"""The fact of the stage `measure` that identifies the test set."""
TRAINING = ".training"
"""The end of the name of a folder with the training of an unfinished stage."""
POLL_S, PATIENCE_S = 1.0, 60.0
"""How often a worker looks for the first one, and how long it may be absent."""
_MOST_STATE_BYTES = 1 << 28


@dataclass(frozen=True)
class Done:
    """A finished stage: its duration, the SHA-256 of its files, and facts for later stages."""

    seconds: float
    files: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _State:
    """The content of `state.json`; see `RunFolder`.

    `sha256` is the hash of the other fields, to detect changes.
    """

    identity: dict[str, str]
    stages: dict[str, Done]
    running: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    sha256: str = ""


@dataclass
class RunFolder:
    """The state of a run, in memory and on disk.

    Args:
        path: The folder.
        identity: Hashes of the inputs of the run; it can be resumed only if they are the same.
        done: The finished stages, in order.
        versions: Versions of packages when the run started.
        kept: Whether the folder is kept, so that the run can be resumed.
    """

    path: Path
    identity: dict[str, str]
    done: dict[str, Done] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    kept: bool = True

    def training(self, stage: str) -> Path | None:
        """Return the folder for the training of a stage; None if the run is not kept."""
        return self.path / f"{stage}{TRAINING}" if self.kept else None

    def file(self, name: str) -> Path:
        """Return the path of a file of the run."""
        return self.path / name

    def stage(
        self, name: str, files: tuple[str, ...], work: Callable[[], Mapping[str, Any]]
    ) -> Done:
        """Run a stage unless it is done, and return its record.

        Args:
            name: Name of the stage.
            files: The files it writes. A stage whose files are missing or changed runs again, and
                so do those after it.
            work: Runs the stage and returns its facts.
        """
        before = self.done.get(name)
        if before is not None:
            changed = [file for file in files if self._hash(file) != before.files.get(file)]
            if not changed:
                log.info("%s: already done", name)
                return before
            log.warning("%s: %s missing or changed; runs again", name, ", ".join(changed))
            names = list(self.done)
            self.done = {key: self.done[key] for key in names[: names.index(name)]}
            _remove_trainings(self.path)
        self._write(running=name)
        log.info("%s: begins", name)
        start = time.perf_counter()
        facts = work()
        seconds = round(time.perf_counter() - start, 2)
        hashes = {file: self._hash(file) for file in files}
        missing = [file for file, found in hashes.items() if not found]
        if missing:
            raise TfpruneError(f"{name}: {', '.join(missing)} was not written to {self.path}")
        self.done[name] = Done(seconds, hashes, facts)
        self._write(running=None)
        _remove_trainings(self.path)
        log.info("%s: done in %.1f s", name, seconds)
        return self.done[name]

    def _hash(self, file: str) -> str:
        path = self.path / file
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    def _write(self, running: str | None) -> None:
        state = _State(self.identity, self.done, running, self.versions)
        fields = json.loads(json.dumps(dataclasses.asdict(state)))
        fields["sha256"] = _state_hash(fields)
        write_atomic(self.path / STATE, json.dumps(fields, indent=2) + "\n")


@contextlib.contextmanager
def open_folder(
    path: str | os.PathLike[str],
    recipe: Recipe,
    identity: Mapping[str, str],
    *,
    versions: Mapping[str, str] | None = None,
    resume: bool = False,
    kept: bool = True,
) -> Iterator[RunFolder]:
    """Open a run folder and its log for a `with` block.

    Args:
        path: The folder, which is created if missing.
        recipe: The recipe, which is written to `recipe.toml` with all defaults.
        identity: Hashes of the other inputs of the run: data, and a model if one is given.
        versions: Versions of packages that the results depend on; a warning lists those that
            changed since the start of the run.
        resume: Resume the run in the folder, or start one if there is none.
        kept: Whether the folder is kept.

    Raises:
        OptionError: The folder has other files, or a run and `resume` is not set, or another
            process is using it.
        RecipeError: The run in the folder has another recipe.
        DataError: The run in the folder has other data or another model.
    """
    folder = Path(path)
    check_run_folder(folder, resume=resume)
    state = _read_state(folder)
    identity = {"recipe": _recipe_sha256(folder, recipe, state), **identity}
    unfinished = state.running if resume and state and state.identity == identity else None
    if state is not None and not state.stages:
        state = None  # no stage is done, so start from the beginning
    if state is not None:
        _check_same(folder, state.identity, identity)
    folder.mkdir(parents=True, exist_ok=True)
    now = dict(versions or {})
    done = dict(state.stages) if state else {}
    with _locked(folder), _logging(folder / LOG):
        _sweep(folder)
        _remove_trainings(folder, but=unfinished)
        if resume:
            log.info("resumed, with %s done", ", ".join(done) or "no stage")
        if state is None:
            write_atomic(folder / RECIPE, to_toml(recipe.to_dict()))
        else:
            _check_versions(state.versions, now)
        begun = state.versions if state and state.versions else now
        yield RunFolder(folder, identity, done, begun, kept)


def check_run_folder(path: str | os.PathLike[str], *, resume: bool) -> None:
    """Raise OptionError unless a run can start in a folder, or be resumed there."""
    folder = Path(path)
    if os.path.lexists(folder) and not folder.is_dir():
        what = "a file" if folder.exists() else "a broken link"
        raise OptionError(f"{folder}: {what}. Give a folder for the run.")
    state = _read_state(folder)
    for name in (STATE, RECIPE, LOG, NATIVE_LOG, LOCK):
        check_destination(folder / name)
    if state is None:
        found = os.listdir(folder) if folder.is_dir() else []
        others = sorted(name for name in found if name not in EARLY and not UNFINISHED.match(name))
        if others:
            raise OptionError(
                f"{folder}: not empty ({others[0]} …), and not a run of tfprune. Give another "
                "folder."
            )
    elif not resume and (done := len(state.stages)):
        raise OptionError(
            f"{folder}: contains a run already, with {done} stage{'s' if done > 1 else ''} done. "
            "Give --resume to resume it, or another folder."
        )


def facts_of(path: Path, stage: str) -> Mapping[str, Any]:
    """Return the facts of a stage of the run in a folder; none if it is not done.

    Raises:
        OptionError: `state.json` is not what tfprune wrote.
    """
    state = _read_state(path)
    done = state.stages.get(stage) if state is not None else None
    return done.facts if done is not None else {}


def wait_for_run(path: Path, last: str) -> None:
    """Wait until another process has done the last stage of a run.

    Raises:
        TrainingError: The process has ended before.
    """
    free = 0.0
    while True:
        state = _read_state(path)
        if state is not None and last in state.stages:
            return
        with contextlib.suppress(OptionError), _locked(path):
            free += POLL_S  # Nobody uses it: it has not begun yet, or has ended.
        if free > PATIENCE_S:
            raise TrainingError(
                f"{path}: the first worker ended before the stage {last}. See {path / LOG}."
            )
        time.sleep(POLL_S)


def _read_state(folder: Path) -> _State | None:
    path = folder / STATE
    if not os.path.lexists(path):
        return None
    try:
        if not path.is_file() or path.stat().st_size > _MOST_STATE_BYTES:
            raise ValueError("it is too large, or not a file")
        fields = parse_json(read_bytes(path, "restore it"), nan=True)
        state = record(_State, fields)
        if "sha256" in fields and fields["sha256"] != _state_hash(fields):
            raise ValueError("it was changed")
    except (OSError, ValueError) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise OptionError(
            f"{path}: not what tfprune wrote ({why}). Restore it, or remove the folder and start "
            "again."
        ) from None
    return state


def _state_hash(fields: Mapping[str, Any]) -> str:
    """Return a hash of a state without its own hash, as JSON restores it."""
    kept = {name: value for name, value in fields.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def _recipe_sha256(folder: Path, recipe: Recipe, state: _State | None) -> str:
    """Return the hash of a recipe: that of the run there, if an earlier version wrote the same."""
    before = state.identity.get("recipe") if state is not None else None
    if before in (None, recipe.sha256()):
        return recipe.sha256()
    try:
        tables = tomllib.loads((folder / RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return recipe.sha256()
    same = tables_sha256(tables) == before and recipe.is_same_run(tables)
    return before if same else recipe.sha256()


def _check_versions(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Warn if a run is resumed with other versions than it started with."""
    changed = [
        f"{name} {before[name]}, now {now.get(name, 'not installed')}"
        for name in before
        if before[name] != now.get(name)
    ]
    if changed:
        log.warning(
            "the run was started with %s: finished stages are kept, and later ones may differ from "
            "an uninterrupted run; install the former versions to avoid that",
            "; ".join(changed),
        )


def _check_same(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for what in sorted(set(before) | set(now)):
        if before.get(what) == now.get(what):
            continue
        if what == "recipe":
            raise RecipeError(
                f"{folder}: the run there has another recipe, see {folder / RECIPE}. "
                "Resume it with that recipe, or give another folder."
            )
        raise DataError(
            f"{folder}: the {what} of the run there differs from the one given now. "
            "Restore it, or give another folder."
        )


def _remove_trainings(folder: Path, but: str | None = None) -> None:
    """Remove what the trainings of all stages but one have stored."""
    for path in folder.glob(f"*{TRAINING}"):
        if path.name != f"{but}{TRAINING}":
            shutil.rmtree(path)


def _sweep(folder: Path) -> None:
    """Remove unfinished files of a killed run."""
    for path in folder.iterdir():
        if UNFINISHED.match(path.name):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # The system releases the lock when the process ends, even if it is killed.
    with open(folder / LOCK, "w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OptionError(
                    f"{folder}: another process is using it. Wait for it to end."
                ) from None
        yield


class _Forward(logging.Handler):
    """Passes records to the root logger, at the level that was set before."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger().callHandlers(record)


@contextlib.contextmanager
def _logging(path: Path) -> Iterator[None]:
    logger = logging.getLogger("tfprune")
    to_file = logging.FileHandler(path, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers: list[logging.Handler] = [to_file]
    level, propagate = logger.level, logger.propagate
    if propagate:
        # The file gets more than the logger's level; others get the same records as before.
        handlers.append(_Forward(logger.getEffectiveLevel()))
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)
        logger.propagate = propagate
