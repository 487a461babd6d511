"""The tables of the accuracy study: means, verdicts, and missing cells."""

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("structure_accuracy")
    finally:
        sys.path.remove(str(FOLDER))


def asking(study: ModuleType, networks: list[str], seed: int) -> argparse.Namespace:
    """Return the options for all methods of these networks and one seed."""
    methods = [*study.DENSE, *study.METHODS]
    return argparse.Namespace(networks=networks, seeds=[seed], methods=methods)


def cells_of(study: ModuleType, after: dict[str, list[float]], ratio: float) -> dict:
    """Finished cells of ResNet-8, one a seed, from accuracies after tuning."""
    return {
        ("resnet_8", seed, method, ratio): {"after": value}
        for method, values in after.items()
        for seed, value in zip(study.SEEDS, values, strict=False)
    }


def test_a_mean_says_how_many_seeds_it_has(study: ModuleType) -> None:
    assert study.spread([]) == "–"
    assert study.spread([0.5]) == "50.0 (1 seed)"
    assert study.spread([0.4, 0.6]) == "50.0 ± 14.1 (2 seeds)"
    assert study.spread([0.5, 0.6, 0.7]) == "60.0 ± 10.0"


def test_the_verdict_names_the_winner_and_who_loses(study: ModuleType) -> None:
    after = {
        "l2-global": [0.70, 0.72, 0.74],
        "taylor-global": [0.60, 0.60, 0.60],
        "random-uniform": [0.99, 0.99, 0.99],
        "torch_pruning-global": [0.70, 0.70, 0.70],
        "torch_pruning-uniform": [0.50, 0.50, 0.50],
    }
    (line,) = study.verdicts(cells_of(study, after, 0.5))
    assert "tfprune, l2, global 72.0 ± 2.0, " in line
    assert "Torch-Pruning, GroupMagnitude, global 70.0 ± 0.0: +2.0 points." in line
    assert line.endswith(
        "Behind Torch-Pruning's best: tfprune, taylor, global; "
        "Torch-Pruning, GroupMagnitude, uniform."
    )
    # A lead that is smaller than the spread of the seeds is said to be.
    after["torch_pruning-global"] = [0.71, 0.71, 0.71]
    (line,) = study.verdicts(cells_of(study, after, 0.5))
    assert "+1.0 points, which is less than the seeds differ by." in line
    # With one seed there is nothing to tell a lead from chance by.
    (line,) = study.verdicts(cells_of(study, {m: v[:1] for m, v in after.items()}, 0.5))
    assert "-1.0 points, of one seed only. Behind Torch-Pruning's best: tfprune, l2" in line
    # Only the seeds that all methods have finished count.
    after["torch_pruning-global"].pop()
    (line,) = study.verdicts(cells_of(study, after, 0.25))
    assert "tfprune, l2, global 71.0 ± 1.4 (2 seeds), " in line
    assert "71.0 ± 0.0 (2 seeds): +0.0 points" in line


def test_each_finished_method_has_a_row(study: ModuleType) -> None:
    cells = cells_of(study, {"l2-global": [0.5, 0.5, 0.5], "gates": [0.25]}, 0.5)
    for cell in cells.values():
        cell |= {"macs": 0.49, "params": 0.4, "plain": 0.125}
    first, second = study.rows(cells)
    title = "ResNet-8, CIFAR-10 JPEG q75"
    shares = ["49.0", "40.0"]
    assert first == [title, "50%", "tfprune, l2, global", *shares, "12.5 ± 0.0", "–", "–",
                     "50.0 ± 0.0"]  # fmt: skip
    assert second[:2] == ["", ""]
    assert second[-1] == "25.0 (1 seed)"


def test_a_truncated_line_is_measured_again(study: ModuleType, tmp_path: Path) -> None:
    options = asking(study, ["fashion_convnet"], 0)
    first, second, *_ = study.jobs("tfprune", tmp_path, options)
    study.store(tmp_path, {**first, "after": 0.5})
    with open(tmp_path / "cells.jsonl", "a") as file:
        file.write(json.dumps({**second, "after": 0.25})[:40])
    assert list(study.read_cells(tmp_path)) == [study.key(first)]
    study.store(tmp_path, {**second, "after": 0.75})
    found = study.read_cells(tmp_path)
    assert [cell["after"] for cell in found.values()] == [0.5, 0.75]
    (line,) = study.unfinished(found, options)
    wanted = sum(1 for side in ("tfprune", "torch") for _ in study.jobs(side, tmp_path, options))
    assert f"{wanted - 2} of {wanted} cells" in line
    assert "CIFAR" not in line


def test_cells_of_another_budget_are_refused(study: ModuleType, tmp_path: Path) -> None:
    options = asking(study, ["resnet_8"], 1)
    job = next(study.jobs("tfprune", tmp_path, options))
    study.store(tmp_path, {**job, "images": 7, "after": 0.5})
    with pytest.raises(SystemExit, match="made with another images; give another --work"):
        study.read_cells(tmp_path)


def test_bn_scale_is_left_out_for_a_network_without_batch_normalization(study: ModuleType) -> None:
    options = asking(study, list(study.NETWORKS), 0)
    found = {(job["network"], job["method"]) for job in study.jobs("tfprune", Path(), options)}
    assert ("resnet_8", "bn_scale-global") in found
    assert ("fashion_convnet", "bn_scale-global") not in found
    assert {job["method"] for job in study.jobs("torch", Path(), options)} == {
        "torch_dense-tuned", "torch_pruning-uniform", "torch_pruning-global",
    }  # fmt: skip
    options.methods = ["gates"]
    assert {job["method"] for job in study.jobs("tfprune", Path(), options)} == {"gates"}
