"""The stages of a run. Each reads the files of those before it and writes its own.

Because a stage starts from files only, a resumed run gives the same result as an uninterrupted one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras

from tfprune.clustering.cluster import clustering_notes, strip_clustering
from tfprune.deploy.tflite import to_tflite
from tfprune.keras_support.trainer_internals import set_all_seeds
from tfprune.loading.load import read_model
from tfprune.measure.comparison import compare
from tfprune.pipeline.changes import (
    SECTIONS,
    check_choices,
    cluster_by,
    removed_rows,
    shrink_by,
    sizes_beside,
)
from tfprune.pipeline.datasets import Dataset
from tfprune.pipeline.folder import TEST_SHA256, RunFolder
from tfprune.pipeline.losses import task_of_model
from tfprune.pipeline.models import check_model, file_shape
from tfprune.pipeline.saving import load_artifact, save_model, saved_temporarily
from tfprune.pipeline.steps import (
    TRAINED,
    epoch_steps,
    filled,
    fitting,
    last_update,
    schedule_of,
)
from tfprune.pipeline.training import Fitted, compile_model, fit
from tfprune.recipe.recipe import Recipe
from tfprune.recipe.tables import MeasureTable, QuantizeTable
from tfprune.recipe.task_table import table_of
from tfprune.recipe.toml import to_toml
from tfprune.report.data import Curve, Section, Stage
from tfprune.report.gates import Gate
from tfprune.report.report import Report
from tfprune.runtime.schemes import AUTO
from tfprune.sparsity.choices.scores import SCORES
from tfprune.sparsity.pruning import prune, strip_pruning
from tfprune.sparsity.summary import sparsity_of
from tfprune.storage.files import write_atomic
from tfprune.tfmot_compat.callbacks import UpdatePruningStep
from tfprune.utils.progress import Progress

GRADIENT_EXAMPLES = 1024
"""Number of training examples for a score that needs gradients."""

CHOICE_EXAMPLES = 2048
"""Maximum number of examples for scoring the candidates of a scheme."""


@dataclass(frozen=True)
class Run:
    """The input of every stage; `build` returns the model to start from.

    `optimizer` is the one that the model was compiled with, if it was; `strategy`, TensorFlow's.
    """

    recipe: Recipe
    data: Dataset
    folder: RunFolder
    build: Callable[[], keras.Model]
    progress: Progress
    optimizer: Any = None
    notes: tuple[str, ...] = ()
    strategy: Any = None

    def load(self, name: str) -> keras.Model:
        """Return the model that an earlier stage saved under a name."""
        return read_model(self.folder.file(name))

    def table(self, stage: str) -> Any:
        """Return the table of a stage that trains, with what it leaves unset as in [train]."""
        return filled(self.recipe, getattr(self.recipe, stage))

    def compile(self, stage: str, model: keras.Model) -> keras.Model:
        """Return a model, on the devices that train it, compiled for the training of a stage."""
        table = self.table(stage)
        if self.strategy is not None:
            with saved_temporarily(model, self.folder.path) as path, self.strategy.scope():
                model = read_model(path)
        optimizer = table.optimizer or self.optimizer or "adam"
        steps = max(table.epochs, 1) * self.epoch_steps(stage)
        rate, weights = table.learning_rate, table.class_weight
        compile_model(model, self.data, optimizer, rate, steps, f"[{stage}]", weights)
        return model

    def fit(
        self, stage: str, model: keras.Model, *, after: int = 0, callbacks: Sequence[Any] = ()
    ) -> Fitted:
        """Train a compiled model in a stage; early stopping begins `after` some epochs."""
        table, training = self.table(stage), fitting(self.recipe)
        with self.progress.task("steps", table.epochs * self.epoch_steps(stage)) as task:
            return fit(
                model,
                self.data,
                epochs=table.epochs,
                batch_size=training.batch_size,
                task=task,
                seed=self.recipe.seed,
                callbacks=callbacks,
                folder=self.folder.training(stage),
                options=table,
                first_scored=after,
                precision=training.precision,
            )

    def seed(self, stage: int) -> None:
        """Set all random seeds at the start of a stage."""
        set_all_seeds(1_000 * self.recipe.seed + stage)

    def epoch_steps(self, stage: str) -> int:
        """Return the number of optimizer steps in an epoch of a stage."""
        return epoch_steps(self.recipe, getattr(self.recipe, stage), self.data.train)

    def calibration(self) -> Any:
        """Return training examples, the same each time; of arrays, drawn at random."""
        count = (self.recipe.quantize or QuantizeTable()).calibration
        return self.data.train.some(count, self.recipe.seed).given

    def examples(self) -> Any:
        """Return training examples for gradients."""
        return self.data.targets(self.data.train.first(GRADIENT_EXAMPLES)).given


def train(run: Run) -> Mapping[str, Any]:
    """Build or load the dense model, train it if the recipe says so, and save it."""
    run.seed(1)
    model = run.build()
    check_model(model, run.data)
    # Fail before training if the model cannot be loaded again, or pruned.
    with saved_temporarily(model, run.folder.path) as path:
        shape = file_shape(model, run.recipe.quantize, run.data)
        check_choices(read_model(path), run.recipe, shape)
        run.seed(1)
        model = model if run.recipe.train is None else read_model(path)
    fitted = Fitted({})
    if run.recipe.train is not None:
        model = run.compile("train", model)
        fitted = run.fit("train", model)
    save_model(model, run.folder.file("baseline.keras"))
    return {**asdict(fitted), "parameters": model.count_params()}


def convert_baseline(run: Run) -> Mapping[str, Any]:
    """Convert the dense model to a float32 file, the baseline."""
    run.seed(2)
    model = run.load("baseline.keras")
    to_tflite(
        model,
        run.folder.file("baseline.tflite"),
        calibration=run.calibration(),
        input_shape=file_shape(model, run.recipe.quantize, run.data),
        progress=run.progress,
    )
    return {}


def shrink_model(run: Run) -> Mapping[str, Any]:
    """Remove channels, neurons, heads and blocks, and fine-tune the smaller model.

    It starts from the dense model, or from the pruned one if closed units are removed.
    """
    table = run.table("shrink")
    run.seed(5)
    pruned = table.after_pruning and run.recipe.prune is not None
    model = run.load("pruned.keras" if pruned else "baseline.keras")
    model = run.compile("shrink", model)
    model, report = shrink_by(
        model,
        table,
        data=run.examples(),
        repair=run.data.train.first(table.examples).given if table.examples else None,
        seed=run.recipe.seed,
        input_shape=file_shape(model, run.recipe.quantize, run.data),
        progress=run.progress,
    )
    fitted = Fitted({})
    if table.epochs:
        model = run.compile("shrink", model)
        fitted = run.fit("shrink", model)
    save_model(model, run.folder.file("shrunk.keras"))
    return {
        "curves": fitted.curves,
        "removed": removed_rows(report),
        "notes": [*fitted.notes, *report.notes, *report.reasons],
    }


def prune_model(run: Run) -> Mapping[str, Any]:
    """Prune the model during fine-tuning, and remove the masks."""
    table = run.table("prune")
    run.seed(3)
    shrinking = run.recipe.shrink
    shrunk = shrinking is not None and not shrinking.after_pruning
    model = run.load("shrunk.keras" if shrunk else "baseline.keras")
    model = run.compile("prune", model)
    schedule = schedule_of(table, run.epoch_steps("prune"))
    prune(
        model,
        table.final_sparsity,
        score=table.score,
        pattern=table.pattern,
        allocation=table.allocation,
        schedule=schedule,
        only=table.only,
        skip=table.skip,
        data=run.examples() if SCORES[table.score].needs == "gradient" else None,
        seed=run.recipe.seed,
    )
    after = last_update(schedule) // run.epoch_steps("prune") + 1
    fitted = run.fit("prune", model, after=after, callbacks=[UpdatePruningStep()])
    skipped = [f"not pruned: {one.layer}: {one.reason}" for one in sparsity_of(model).skipped]
    model = strip_pruning(model)
    save_model(model, run.folder.file("pruned.keras"))
    return {
        "curves": fitted.curves,
        "sparsity": sparsity_of(model).sparsity,
        "notes": [*fitted.notes, *skipped],
    }


def cluster_model(run: Run) -> Mapping[str, Any]:
    """Make the weights of each kernel share values during fine-tuning."""
    table = run.table("cluster")
    run.seed(6)
    model = run.load(_before("cluster", run))
    model = run.compile("cluster", model)
    cluster_by(model, table, run.recipe.seed)
    fitted = run.fit("cluster", model)
    notes = clustering_notes(model)
    save_model(strip_clustering(model), run.folder.file("clustered.keras"))
    return {"curves": fitted.curves, "notes": [*fitted.notes, *notes]}


def _before(stage: str, run: Run) -> str:
    """Return the file of the last model that was written before a stage."""
    order = list(plan(run.recipe))
    return [TRAINED[one] for one in order[: order.index(stage)] if one in TRAINED][-1]


def quantize(run: Run) -> Mapping[str, Any]:
    """Write the last model under its final name, and convert it with the recipe's scheme."""
    run.seed(4)
    last = run.folder.file(_before("quantize", run))
    write_atomic(run.folder.file("model.keras"), last.read_bytes())
    table, model = run.recipe.quantize or QuantizeTable("float32"), run.load("model.keras")
    options: dict[str, Any] = {
        "io": table.io,
        "layers": table.layers,
        "rounding": table.rounding,
        "input_shape": file_shape(model, table, run.data),
        "calibration": run.calibration(),
        "progress": run.progress,
    }
    artifact = to_tflite(
        model,
        run.folder.file("model.tflite"),
        scheme=table.scheme,
        **options,
        **_choosing(run),
    )
    facts: dict[str, Any] = {}
    choice = artifact.report.choice
    if choice is not None:
        text = f"{choice.why}. {choice.measured_on}."
        facts["candidates"] = {"columns": choice.columns, "rows": choice.cells, "text": text}
    if run.recipe.cluster is not None:
        files = {
            name: to_tflite(run.load(name), scheme=artifact.report.scheme, **options)
            for name in ("baseline.keras", _before("cluster", run))
        }
        facts["sizes"] = sizes_beside({**files, "clustered.keras": artifact})
    return facts


def _choosing(run: Run) -> dict[str, Any]:
    """Return the options for choosing a scheme; only for `auto`."""
    table = run.recipe.quantize
    if table is None or table.scheme != AUTO:
        return {}
    # The test set is only for the final report.
    seen = (run.data.validation or run.data.train).first(CHOICE_EXAMPLES)
    options = {"prefer": table.prefer, "max_drop": table.max_drop}
    task = task_of_model(run.load("model.keras"), run.data)
    if task.name == "anomaly":  # only the test set has anomalies, so the outputs are compared
        return {**options, "task": task}
    return {**options, "data": seen.given, "task": task}


def measure(run: Run) -> Mapping[str, Any]:
    """Compare both files in one run, on the test set."""
    table = run.recipe.measure or MeasureTable()
    entries = [
        (load_artifact(run.folder.file(f"{name}.tflite")), run.load(f"{name}.keras"))
        for name in ("baseline", "model")
    ]
    report = compare(
        {"baseline": entries[0]},
        {"model": entries[1]},
        run.data.test.given,
        task=task_of_model(entries[0][1], run.data),
        device=table.device,
        threads=table.threads,
        runs=table.runs,
        title=f"{entries[0][1].name} on {run.data.name.removeprefix('[data] ')}",
        progress=run.progress,
    )
    write_atomic(run.folder.file("measured.json"), report.to_json())
    return {TEST_SHA256: run.data.test_fingerprint()}


def write_report(run: Run) -> Mapping[str, Any]:
    """Check the gate, and write the report in every format."""
    report = Report.load(run.folder.file("measured.json"))
    gate = run.recipe.gate
    if gate is not None:
        report = report.with_gate(Gate(**asdict(gate)))
    done = run.folder.done
    report = report.with_run(
        stages=[Stage(name, stage.seconds) for name, stage in done.items()],
        history=[
            Curve(curve, tuple(values), name)
            for name, stage in done.items()
            for curve, values in stage.facts.get("curves", {}).items()
        ],
        sections=[
            Section(
                "Removed channels, neurons, heads and blocks",
                columns=("group", "kind", "before", "after"),
                rows=tuple(tuple(row) for row in stage.facts["removed"]),
            )
            for stage in done.values()
            if stage.facts.get("removed")
        ]
        + [
            Section(
                title,
                text=found["text"],
                columns=tuple(found["columns"]),
                rows=tuple(map(tuple, found["rows"])),
            )
            for stage in done.values()
            for fact, title in SECTIONS.items()
            if (found := stage.facts.get(fact))
        ],
        notes=[
            *_task_notes(run),
            *(note for stage in done.values() for note in stage.facts.get("notes", ())),
        ],
        recipe=to_toml(run.recipe.to_dict()),
        task=_task_text(run),
    )
    write_atomic(run.folder.file("report.md"), report.to_markdown())
    write_atomic(run.folder.file("report.html"), report.to_html())
    write_atomic(run.folder.file("report.json"), report.to_json())
    return {"passed": report.passed}


def _task_notes(run: Run) -> list[str]:
    """Return where the task comes from, unless the recipe or the caller names it."""
    found = [f"task: {run.data.task.named}, {run.data.origin}"] if run.data.origin else []
    return [*found, *run.data.notes, *run.notes]


def _task_text(run: Run) -> str:
    """Return the task as TOML, for `check`; empty if it has functions of Python."""
    table = table_of(task_of_model(run.load("baseline.keras"), run.data))
    return to_toml({"task": table}) if table else ""


StageWork = Callable[[Run], Mapping[str, Any]]


def plan(recipe: Recipe) -> dict[str, tuple[StageWork, tuple[str, ...]]]:
    """Return the stages of a recipe in order, each with its function and its files."""
    stages: dict[str, tuple[StageWork, tuple[str, ...]]] = {
        "train": (train, ("baseline.keras",)),
        "baseline": (convert_baseline, ("baseline.tflite", "baseline.json")),
        "shrink": (shrink_model, ("shrunk.keras",)),
        "prune": (prune_model, ("pruned.keras",)),
        "cluster": (cluster_model, ("clustered.keras",)),
        "quantize": (quantize, ("model.keras", "model.tflite", "model.json")),
        "measure": (measure, ("measured.json",)),
        "report": (write_report, ("report.json", "report.md", "report.html")),
    }
    order = list(stages)
    if recipe.shrink is not None and recipe.shrink.after_pruning:
        order[2:4] = ["prune", "shrink"]
    left_out = {name for name in ("shrink", "prune", "cluster") if getattr(recipe, name) is None}
    return {name: stages[name] for name in order if name not in left_out}
