"""The folder of a run: which stages are done, with the hash of every file they wrote.

A stage counts as done once `state.json` says so, and that is written after its files. So a run
that is killed at any moment leaves either the whole of a stage or something to be done again.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfprune.errors import DataError, OptionError, RecipeError, TfpruneError
from tfprune.recipe.tables import Recipe
from tfprune.recipe.toml import to_toml
from tfprune.storage.files import check_destination, parse_json, read_bytes, write_atomic
from tfprune.storage.records import record

try:
    import fcntl
except ImportError:  # Windows has no flock, so two runs in one folder are not told apart there
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("tfprune.run")

STATE = "state.json"
RECIPE = "recipe.toml"
LOG = "run.log"
NATIVE_LOG = "native.log"
LOCK = ".lock"
EARLY = {RECIPE, LOG, NATIVE_LOG, LOCK, "traceback.txt"}
"""What may be there before the state is."""
UNFINISHED = re.compile(r"\.saving-\w+$|\..+\.(json|toml|keras|tflite|md|html)\.\w{8}$")
"""Temporary names of files that were being written when a run was killed."""
_MOST_STATE_BYTES = 1 << 28


@dataclass(frozen=True)
class Done:
    """A stage that is finished.

    Args:
        seconds: How long it took.
        files: The names of the files it wrote, and their SHA-256.
        facts: What later stages need to know of it, as JSON.
    """

    seconds: float
    files: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _State:
    """What `state.json` holds; see `RunFolder`.

    Args:
        identity: Of the run.
        stages: Those that are done.
        running: The one that is at work.
        versions: Of the packages that the run was begun with.
        sha256: Of all the rest: a number that was changed is as wrong as a missing stage.
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
        identity: Hashes of what the run is made from; a run is gone on with only while they stay.
        done: The finished stages, in order.
        versions: Of the packages that the run was begun with.
    """

    path: Path
    identity: dict[str, str]
    done: dict[str, Done] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def file(self, name: str) -> Path:
        """Return the path of a file of the run."""
        return self.path / name

    def stage(
        self, name: str, files: tuple[str, ...], work: Callable[[], Mapping[str, Any]]
    ) -> Done:
        """Return what a stage did, doing it only if it is not done yet.

        Args:
            name: Of the stage.
            files: What it writes. A stage whose files are gone or changed is done again, and so
                are those after it.
            work: Does it, and returns its facts.
        """
        before = self.done.get(name)
        if before is not None:
            changed = [file for file in files if self._hash(file) != before.files.get(file)]
            if not changed:
                log.info("%s: done before", name)
                return before
            log.warning("%s: %s gone or changed since; done again", name, ", ".join(changed))
            names = list(self.done)
            self.done = {key: self.done[key] for key in names[: names.index(name)]}
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
) -> Iterator[RunFolder]:
    """Give the folder of a run, with its log open, for the length of a `with` block.

    Args:
        path: The folder; it is made when missing.
        recipe: What is run; written to `recipe.toml` as resolved.
        identity: Hashes of what else the run is made from: data, a model that was handed over.
        versions: Of the packages that its numbers depend on; others than those it was begun with
            are warned of.
        resume: Go on with the run that is in the folder. Without one there it begins.

    Raises:
        OptionError: If the folder holds other files, or a run and `resume` is not set, or another
            process is at work in it.
        RecipeError: If the run to go on with was of another recipe.
        DataError: If it was made from other data or another model.
    """
    folder = Path(path)
    check_folder(folder, resume=resume)
    state = _read_state(folder)
    if state is not None and not state.stages:
        state = None  # nothing is lost by beginning anew
    identity = {"recipe": recipe.sha256(), **identity}
    if state is not None:
        _check_same(folder, state.identity, identity)
    folder.mkdir(parents=True, exist_ok=True)
    now = dict(versions or {})
    done = dict(state.stages) if state else {}
    with _locked(folder), _logging(folder / LOG):
        _sweep(folder)
        if resume:
            log.info("goes on, with %s done", ", ".join(done) or "no stage")
        if state is None:
            write_atomic(folder / RECIPE, to_toml(recipe.to_dict()))
        else:
            _check_versions(state.versions, now)
        begun = state.versions if state and state.versions else now
        yield RunFolder(folder, identity, done, begun)


def check_folder(path: str | os.PathLike[str], *, resume: bool) -> None:
    """Raise OptionError unless a run may begin in a folder, or go on there."""
    folder = Path(path)
    if os.path.lexists(folder) and not folder.is_dir():
        what = "a file" if folder.exists() else "a link to nothing"
        raise OptionError(f"{folder}: {what}. Name a folder for the run.")
    state = _read_state(folder)
    for name in (STATE, RECIPE, LOG, NATIVE_LOG, LOCK):
        check_destination(folder / name)
    if state is None:
        found = os.listdir(folder) if folder.is_dir() else []
        others = sorted(name for name in found if name not in EARLY and not UNFINISHED.match(name))
        if others:
            raise OptionError(
                f"{folder}: not empty ({others[0]} …), and no run of tfprune. Name another folder."
            )
    elif not resume and (done := len(state.stages)):
        raise OptionError(
            f"{folder}: holds a run already, with {done} stage{'s' if done > 1 else ''} done. "
            "Give --resume to go on with it, or another folder."
        )


def _read_state(folder: Path) -> _State | None:
    path = folder / STATE
    if not os.path.lexists(path):
        return None
    try:
        if not path.is_file() or path.stat().st_size > _MOST_STATE_BYTES:
            raise ValueError("no file of its size and kind")
        fields = parse_json(read_bytes(path, "restore it"), nan=True)
        state = record(_State, fields)
        if "sha256" in fields and fields["sha256"] != _state_hash(fields):
            raise ValueError("it was changed")
    except (OSError, ValueError) as error:
        why = str(error).removeprefix(f"{path}: ")
        raise OptionError(
            f"{path}: not what tfprune wrote ({why}). Restore it, or remove the folder and begin "
            "anew."
        ) from None
    return state


def _state_hash(fields: Mapping[str, Any]) -> str:
    """Return a hash of a state, its own hash aside, as JSON gives it back."""
    kept = {name: value for name, value in fields.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def _check_versions(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Warn where a run goes on with other versions than it began with: the numbers may differ."""
    changed = [
        f"{name} {before[name]}, now {now.get(name, 'gone')}"
        for name in before
        if before[name] != now.get(name)
    ]
    if changed:
        log.warning(
            "the run was begun with %s: what is done stays, and what follows may differ from an "
            "unbroken run; install the versions of before to go on as it began",
            "; ".join(changed),
        )


def _check_same(folder: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for what in sorted(set(before) | set(now)):
        if before.get(what) == now.get(what):
            continue
        if what == "recipe":
            raise RecipeError(
                f"{folder}: the run there is of another recipe, see {folder / RECIPE}. "
                "Go on with that one, or give another folder."
            )
        raise DataError(
            f"{folder}: the {what} of the run there is not the one given now. "
            "Restore it, or give another folder."
        )


def _sweep(folder: Path) -> None:
    """Remove what a killed run was writing."""
    for path in folder.iterdir():
        if UNFINISHED.match(path.name):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # The lock goes with the process, so one that was killed leaves none behind.
    with open(folder / LOCK, "w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OptionError(
                    f"{folder}: another process is at work in it. Wait for it to end."
                ) from None
        yield


class _PassOn(logging.Handler):
    """Gives records to the root logger, as far as they would have got there by themselves."""

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
        # The file gets more than callers asked for; they go on getting what they asked for.
        handlers.append(_PassOn(logger.getEffectiveLevel()))
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
