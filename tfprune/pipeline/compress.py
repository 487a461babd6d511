"""The whole pipeline in one call."""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfprune.data.model_inputs import inputs_of
from tfprune.data.samples import Split
from tfprune.deploy.converter.weight_only import weight_rules
from tfprune.errors import ModelError, OptionError, RecipeError, type_name
from tfprune.measure.fidelity import measures_of
from tfprune.pipeline.datasets import GUESSED, Dataset, as_dataset, load_data
from tfprune.pipeline.folder import check_run_folder, open_folder, wait_for_run
from tfprune.pipeline.steps import TRAINED, epoch_steps, schedule_of
from tfprune.recipe import Recipe, find_recipe, load_recipe, parse_recipe
from tfprune.recipe.sources import is_file, is_function
from tfprune.recipe.task_table import table_of, task_of
from tfprune.recipe.user_code import import_function
from tfprune.report.gates import check_direction
from tfprune.runtime.schemes import SCHEMES
from tfprune.storage.scratch import scratch_folder
from tfprune.task.labels import check_learnable
from tfprune.task.task import Task, as_task
from tfprune.utils.interrupts import handle_interrupts
from tfprune.utils.progress import SILENT, Progress
from tfprune.utils.progress import Task as Step

if TYPE_CHECKING:
    import keras

    from tfprune.report.report import Report
    from tfprune.runtime.artifact import Artifact


@dataclass(frozen=True)
class Result:
    """The result of a run.

    Attributes:
        model: The compressed Keras model.
        artifact: Its `.tflite` file.
        baseline: The dense model as a float32 `.tflite` file.
        report: The comparison of both files.
        folder: The run folder, or None if nothing was kept.
    """

    model: "keras.Model"
    artifact: "Artifact"
    baseline: "Artifact"
    report: "Report"
    folder: Path | None

    @property
    def artefact(self) -> "Artifact":
        """Return the artifact, under its name in 0.1.0."""
        return self.artifact

    @property
    def passed(self) -> bool:
        """Return whether every gate of the recipe passed."""
        return self.report.passed

    def __str__(self) -> str:
        place = f"Everything is in {self.folder}" if self.folder else "Nothing was kept on disk"
        return f"{self.report}\n{place}"


def compress(
    model: "keras.Model | None",
    recipe: Recipe | Mapping[str, Any] | str | os.PathLike[str],
    data: Any = None,
    *,
    task: Task | str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Result:
    """Run a recipe: train, prune, convert, measure, report.

    Every stage starts from the files of the previous one and from its own seed, so a resumed run
    gives the same result as an uninterrupted one. For bit-identical results, call
    `tf.config.experimental.enable_op_determinism()` first, as the command does.

    Args:
        model: The model to start from, instead of the recipe's [model]; it is not changed. None:
            use the recipe's.
        recipe: A `Recipe`, tables as `tomllib` returns them, a path, or the name of a shipped one.
        data: Data to train and evaluate on, instead of the recipe's [data], in a form that
            `tfprune.pipeline.datasets.as_dataset` takes. None: use the recipe's.
        task: What good means: a `Task` or its name. None: that of the recipe's [task]; else that
            of a compiled model; else the labels show it, and the report says so.
        out: The run folder. None: keep only what is returned.
        resume: Resume the run in `out`.
        progress: Receives progress reports.

    Returns:
        The compressed model, both files and the report. A missed gate is not an error:
        see `Result.passed`.

    Raises:
        TfpruneError: A one-line message, before heavy work if possible.
    """
    job = prepare(model, recipe, data, task=task, out=out, resume=resume)
    return carry_out(job, progress)


@dataclass(frozen=True)
class Job:
    """A run, checked as far as possible without TensorFlow.

    The model is None for the one that the recipe names; `out` is None if nothing is kept.
    `optimizer` and `notes` come from a compiled model; `fixed` is whether the task was named.
    """

    model: "keras.Model | None"
    recipe: Recipe
    data: Dataset
    out: Path | None
    resume: bool
    optimizer: Any = None
    notes: tuple[str, ...] = ()
    fixed: bool = False


def prepare(
    model: "keras.Model | None",
    recipe: Recipe | Mapping[str, Any] | str | os.PathLike[str],
    data: Any = None,
    *,
    task: Task | str | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> Job:
    """Check the arguments of `compress` and return a run that is ready to start.

    Recipe, folder, model file and data are checked here. TensorFlow is loaded only if the data
    comes from it.
    """
    recipe = _as_recipe(recipe)
    _check_complete(recipe, model, data)
    if model is None and recipe.model is not None and is_file(recipe.model.source):
        from tfprune.loading.load import check_model_file

        check_model_file(Path(recipe.model.source))
    scheme = recipe.quantize.scheme if recipe.quantize else "float32"
    if recipe.quantize and scheme in SCHEMES and SCHEMES[scheme].weight_bits is not None:
        weight_rules(scheme, recipe.quantize.layers or {})
    several = recipe.train is not None and recipe.train.strategy == "multi_worker"
    if several and out is None:
        raise OptionError("out: multi_worker needs a folder that all workers see. Received None.")
    if out is not None:
        # The first of several workers may have begun in it.
        check_run_folder(out, resume=resume or several)
    wanted = task_of(recipe.task) if recipe.task else None
    wanted = wanted if task is None else as_task(task)
    dataset = _as_data(data, recipe, wanted)
    optimizer: Any = None
    notes: tuple[str, ...] = ()
    if model is not None and hasattr(model, "compiled"):
        dataset, optimizer, notes = _compiled(model, dataset, fixed=wanted is not None)
    _check_task(recipe, dataset)
    if recipe.prune is not None:
        schedule_of(recipe.prune, epoch_steps(recipe, recipe.prune, dataset.train))
    place = Path(out) if out is not None else None
    return Job(model, recipe, dataset, place, resume, optimizer, notes, wanted is not None)


def carry_out(job: Job, progress: Progress = SILENT) -> Result:
    """Run a job of `prepare`."""
    from tfprune.pipeline import stages
    from tfprune.pipeline.training import check_trainings
    from tfprune.training.strategies import copy_run, make_strategy, place_in_cluster

    wanted = job.recipe.train.strategy if job.recipe.train else None
    follows = wanted == "multi_worker" and place_in_cluster()[0] > 0
    strategy = make_strategy(wanted)
    job = _with_its_model(job)
    check_trainings(job.recipe, job.data)
    sha256, notes = job.data.fingerprint()
    notes = (*job.notes, *notes)
    identity = {"data": sha256}
    if origin := _origin(job):
        identity["model"] = origin
    if told := _told_task(job):
        identity["task"] = told
    with contextlib.ExitStack() as stack:
        kept = job.out if not follows else None
        place = kept or stack.enter_context(scratch_folder())
        if follows and job.resume and job.out is not None:
            copy_run(job.out, place)
        folder = stack.enter_context(
            open_folder(
                place,
                job.recipe,
                identity,
                versions=_versions(),
                resume=job.resume or follows,
                kept=job.out is not None,
            )
        )
        check_interrupt = stack.enter_context(handle_interrupts())
        planned = stages.plan(job.recipe)
        for number, (name, (work, files)) in enumerate(planned.items(), 1):
            if follows and name not in TRAINED:
                continue
            shown = _Titled(progress, f"{number}/{len(planned)} {name}")
            run = stages.Run(
                job.recipe,
                job.data,
                folder,
                lambda: _begin(job),
                shown,
                job.optimizer,
                notes,
                strategy,
            )
            folder.stage(name, files, lambda run=run, work=work: work(run))  # type: ignore[misc]
            check_interrupt()
        if follows and job.out is not None:
            wait_for_run(job.out, list(planned)[-1])
            place = job.out
        return _result(place, keep=job.out is not None)


def _versions() -> dict[str, str]:
    """Return the versions that the results of a run depend on."""
    from tfprune.measure.comparison import versions

    found = versions()
    return {name: found[name] for name in ("tfprune", "tensorflow", "keras") if name in found}


@dataclass(frozen=True)
class _Titled:
    """Progress whose tasks have the name of their stage."""

    progress: Progress
    title: str

    @contextlib.contextmanager
    def task(self, name: str, total: float | None = None) -> Iterator[Step]:
        with self.progress.task(f"{self.title}: {name}", total) as task:
            yield task


def _as_recipe(recipe: Recipe | Mapping[str, Any] | str | os.PathLike[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return parse_recipe(recipe)
    return load_recipe(find_recipe(os.fspath(recipe)))


def _check_complete(recipe: Recipe, model: Any, data: Any) -> None:
    missing = []
    if model is None and recipe.model is None:
        missing.append('[model] is missing: add one, such as source = "convnet"')
    if data is None and recipe.data is None:
        missing.append('[data] is missing: add it, such as source = "digits"')
    if missing:
        raise RecipeError("\n".join(f"recipe: {line}" for line in missing))


def _check_task(recipe: Recipe, data: Dataset) -> None:
    """Raise if the labels cannot be learned, or a gate is not for the task's metric.

    The first labels of a stream do not tell whether others are alike.
    """
    trained = recipe.train or recipe.prune or recipe.cluster
    known = isinstance(data.train, Split) or data.task.name == "anomaly"
    if known and (trained or (recipe.shrink and recipe.shrink.epochs)):
        check_learnable(data.task, data.train.head.y, data.name)
    if recipe.gate is not None:
        check_direction(vars(recipe.gate), measures_of(data.task)[0])


def _compiled(model: Any, data: Dataset, *, fixed: bool) -> tuple[Dataset, Any, tuple[str, ...]]:
    """Return data for the task of a compiled model, its optimizer, and notes on its metrics."""
    from tfprune.pipeline.losses import compiled_with

    found = compiled_with(model, (data.given or data).train.head.y)
    if found is None:
        return data, None, ()
    notes = [f"{name} of the compiled model: has no counterpart for files, and was not used"
             for name in found.unknown]  # fmt: skip
    if fixed:
        return data, found.optimizer, ()
    return data.for_task(found.task, "of the compiled model"), found.optimizer, tuple(notes)


def _with_its_model(job: Job) -> Job:
    """Return a job with what a model says that a file, or the user's function, has compiled."""
    source = job.recipe.model.source if job.recipe.model is not None else ""
    if job.model is None and not (is_function(source) or is_file(source)):
        return job
    model = _begin(job)
    takes = inputs_of(model)
    job = job if takes is None else dataclasses.replace(job, data=job.data.with_inputs(takes))
    if job.model is not None:
        return job
    data, optimizer, notes = _compiled(model, job.data, fixed=job.fixed)
    _check_task(job.recipe, data)
    return dataclasses.replace(job, data=data, optimizer=optimizer, notes=notes)


def _as_data(data: Any, recipe: Recipe, task: Task | None) -> Dataset:
    if data is not None:
        return as_dataset(data, seed=recipe.seed, task=task)
    if recipe.data is None:
        raise RecipeError("recipe: [data] is missing")
    return load_data(recipe.data, task)


def _begin(job: Job) -> "keras.Model":
    from tfprune.pipeline.models import build_model

    if job.model is not None:
        return job.model
    if job.recipe.model is None:
        raise RecipeError("recipe: [model] is missing")
    return build_model(job.recipe.model, job.data.input_shape, job.data.classes)


def _origin(job: Job) -> str:
    """Return a hash of the source of the first model; "" if the recipe determines it."""
    if job.model is not None:
        return _model_sha256(job.model)
    source = job.recipe.model.source if job.recipe.model is not None else ""
    if is_file(source):
        return hashlib.sha256(Path(source).read_bytes()).hexdigest()
    if is_function(source):
        code = inspect.getsourcefile(inspect.unwrap(import_function(source)))
        return hashlib.sha256(Path(code).read_bytes()).hexdigest() if code else ""
    return ""


def _told_task(job: Job) -> str:
    """Return a hash of the task; "" if recipe and data determine it."""
    if job.recipe.task is not None or job.data.origin == GUESSED:
        return ""
    task = job.data.task
    text = str(table_of(task) or (task.named, [measure.title for measure in task.measures]))
    return hashlib.sha256(text.encode()).hexdigest()


def _model_sha256(model: Any) -> str:
    import keras

    if not isinstance(model, keras.Model):
        raise ModelError(f"compress: expected a keras.Model. Received {type_name(model)}.")
    digest = hashlib.sha256(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for weight in model.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _result(folder: Path, *, keep: bool) -> Result:
    from tfprune.loading.load import read_model
    from tfprune.pipeline.saving import load_artifact
    from tfprune.report.report import Report

    artifact, baseline = (load_artifact(folder / f"{n}.tflite") for n in ("model", "baseline"))
    if not keep:
        artifact, baseline = (dataclasses.replace(a, path=None) for a in (artifact, baseline))
    return Result(
        model=read_model(folder / "model.keras"),
        artifact=artifact,
        baseline=baseline,
        report=Report.load(folder / "report.json"),
        folder=folder if keep else None,
    )
