"""The contract of every metric and task: the figures of scikit-learn, batch by batch."""

import numpy as np
import pytest
from sklearn import metrics as oracle
from sklearn.neighbors import NearestNeighbors

from tfprune.task.scoring import Scoring
from tfprune.task.task import FORMS, METRICS, TASKS, Task, task_for

RANDOM = np.random.default_rng(0)
COUNT = 200


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def classes(width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    return softmax(RANDOM.normal(size=(COUNT, width))).astype("float32"), RANDOM.integers(
        0, width, COUNT
    )


def neighbors(k: int, vectors: np.ndarray, groups: np.ndarray) -> float:
    found = NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(vectors)
    near = found.kneighbors(vectors, return_distance=False)[:, 1:]
    return float(np.mean([group in groups[row] for group, row in zip(groups, near, strict=True)]))


# Outputs and labels of each form, and what scikit-learn says of them. A new metric needs a line.
DATA = {
    "classes": classes(),
    "numbers": (RANDOM.normal(size=(COUNT, 3)), 100 + RANDOM.normal(size=(COUNT, 3))),
    "decisions": (RANDOM.random((COUNT, 5)), RANDOM.integers(0, 2, (COUNT, 5))),
    "scores": (RANDOM.integers(0, 40, (COUNT, 1)) / 7, RANDOM.integers(0, 2, COUNT)),
    "embeddings": (RANDOM.normal(size=(COUNT, 6)), RANDOM.integers(0, 20, COUNT)),
}
TWO = classes(2)
ORACLES = {
    ("accuracy", "classes"): lambda p, y: oracle.accuracy_score(y, p.argmax(-1)),
    ("pixel_accuracy", "classes"): lambda p, y: oracle.accuracy_score(y, p.argmax(-1)),
    ("exact_match", "classes"): lambda p, y: oracle.accuracy_score(y, p.argmax(-1)),
    ("balanced_accuracy", "classes"): lambda p, y: oracle.balanced_accuracy_score(y, p.argmax(-1)),
    ("f1", "classes"): lambda p, y: oracle.f1_score(y, p.argmax(-1), average="macro"),
    ("f1", "decisions"): lambda p, y: oracle.f1_score(y, p > 0.5, average="macro"),
    ("mean_iou", "classes"): lambda p, y: oracle.jaccard_score(y, p.argmax(-1), average="macro"),
    ("perplexity", "classes"): lambda p, y: np.exp(oracle.log_loss(y, p)),
    ("auc", "scores"): lambda p, y: oracle.roc_auc_score(y, p[:, 0]),
    ("auc", "classes"): lambda p, y: oracle.roc_auc_score(y, p[:, 1]),
    ("label_accuracy", "decisions"): lambda p, y: ((p > 0.5) == y).mean(),
    ("exact_match", "decisions"): lambda p, y: oracle.accuracy_score(y, p > 0.5),
    ("mae", "numbers"): lambda p, y: oracle.mean_absolute_error(y, p),
    ("mse", "numbers"): lambda p, y: oracle.mean_squared_error(y, p),
    ("rmse", "numbers"): lambda p, y: np.sqrt(oracle.mean_squared_error(y, p)),
    ("r2", "numbers"): lambda p, y: oracle.r2_score(y, p),
    **{(f"recall_at_{k}", "embeddings"): lambda p, y, k=k: neighbors(k, p, y) for k in (1, 5, 10)},
}
CASES = [(name, form) for name in METRICS for form in METRICS[name].forms]


def example(name: str, form: str) -> tuple[np.ndarray, np.ndarray]:
    return TWO if (name, form) == ("auc", "classes") else DATA[form]


def value(name: str, form: str, outputs: np.ndarray, labels: np.ndarray, size: int) -> float:
    """The metric, added up over batches of a size."""
    tally = METRICS[name].tally()
    reading = Task(next(kind for kind in TASKS if TASKS[kind].form == form)).reading
    for start in range(0, len(outputs), size):
        part = slice(start, start + size)
        tally.add(FORMS[form](outputs[part], labels[part], reading, first=start))
    return tally.value()


@pytest.mark.parametrize("size", [COUNT, 7])
@pytest.mark.parametrize(("name", "form"), CASES)
def test_a_metric_is_that_of_scikit_learn(name: str, form: str, size: int) -> None:
    if (name, form) not in ORACLES:
        pytest.fail(f"the metric {name} of {form} has no oracle: add one to ORACLES")
    outputs, labels = example(name, form)
    found = value(name, form, outputs, labels, size)
    assert found == pytest.approx(ORACLES[name, form](outputs, labels), rel=1e-6)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_the_direction_is_right(name: str, form: str) -> None:
    """What is right is better than noise, in the direction that the metric states."""
    outputs, labels = example(name, form)
    best = {
        "classes": lambda: np.eye(outputs.shape[-1])[labels] * 0.98 + 0.01 / outputs.shape[-1],
        "numbers": lambda: labels + 1e-3,
        "decisions": lambda: labels.astype(float),
        "scores": lambda: labels[:, None].astype(float),
        "embeddings": lambda: np.eye(20)[labels] + 1e-3 * outputs[:, :1],
    }[form]()
    metric = METRICS[name]
    good, bad = (value(name, form, x, labels, 50) for x in (best, outputs))
    assert good > bad if metric.higher_is_better else good < bad
    if metric.share and metric.title != "R²":
        assert 0 <= bad <= good <= 1


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_alone_makes_a_task(name: str) -> None:
    (measure,) = task_for(name).measures
    assert measure.metric is METRICS[name]


@pytest.mark.parametrize("name", [name for name in TASKS if name != "custom"])
def test_the_metrics_of_a_task_read_its_form(name: str) -> None:
    task = Task(name)
    assert [measure.metric for measure in task.measures] == [
        METRICS[metric] for metric in task.kind.metrics
    ]
    outputs, labels = DATA[task.kind.form]
    inputs = outputs
    if name == "anomaly":
        outputs = inputs = np.repeat(outputs, 4, 1)
        inputs = inputs + (labels[:, None] + 1)
    scoring = Scoring(task)
    for start in (0, 100):
        part = slice(start, start + 100)
        scoring.add({"out": outputs[part]}, labels[part], [inputs[part]], start)
    values = scoring.values()
    assert len(values) == len(task.measures)
    if name == "anomaly":
        assert values == (1.0,)
