"""Prunes the carried-over networks with Torch-Pruning and tunes them in PyTorch, one process.

Started by benchmarks/structure_accuracy.py. It imports neither Keras nor tfprune, so it can run in
an environment of its own.
"""

import copy
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch_networks
import torch_pruning
import tuning
from numpy.typing import NDArray
from torch import nn
from workers import Job, serve

STEPS = 20
"""Halvings of the interval in which the pruning ratio is sought."""

ALIKE = 1e-4
"""How far the logits of both frameworks may lie apart, by the size of the largest."""


def carried(job: Job, x_test: NDArray) -> tuple[Any, float]:
    """The dense network of a job's seed in PyTorch, and how far its logits are from Keras's.

    Raises:
        ValueError: They differ.
    """
    model = getattr(torch_networks, job["network"])()
    with np.load(job["weights"]) as file:
        weights = {str(name): file[f"w{i}"] for i, name in enumerate(file["names"])}
        torch_networks.carry_over(model, weights)
        wanted = file["logits"]
    found = logits(model, x_test[: len(wanted)])
    error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not error <= ALIKE:
        raise ValueError(f"{job['network']}: PyTorch's logits differ by {error:.2g}")
    return model, error


def tensor(images: NDArray) -> Any:
    """Scaled images as PyTorch takes them."""
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@torch.no_grad()
def logits(model: Any, x: NDArray) -> NDArray:
    model.eval()
    parts = np.array_split(x, max(1, len(x) // 500))
    return np.concatenate([model(tensor(tuning.scaled(part))).numpy() for part in parts])


def accuracy(model: Any, x: NDArray, y: NDArray) -> float:
    return float(np.mean(np.argmax(logits(model, x), axis=-1) == y))


def tune(model: Any, x: NDArray, y: NDArray, job: Job) -> None:
    """Train for some epochs; the rate falls to 0."""
    model.train()
    steps = tuning.steps_of(len(x), job["tune_epochs"])
    adam = torch.optim.Adam(model.parameters(), job["tune_rate"], eps=job["epsilon"])
    loss = nn.CrossEntropyLoss()
    order = tuning.batches(x, y, job["tune_epochs"], 1000 + job["seed"], flip=job["flip"])
    for step, (images, labels) in enumerate(order):
        adam.param_groups[0]["lr"] = tuning.rate_at(step, steps, job["tune_rate"])
        adam.zero_grad()
        loss(model(tensor(images)), torch.from_numpy(labels).long()).backward()
        adam.step()


@torch.no_grad()
def recalibrated(model: Any, batches: list[tuple[NDArray, NDArray]]) -> Any:
    """A copy whose batch normalization has the plain average of its statistics over batches."""
    model = copy.deepcopy(model)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for images, _ in batches:
        model(tensor(images))
    return model


def macs_of(model: Any, example: Any) -> int:
    """Multiplications of convolutions and linear layers, counted as tfprune counts them."""
    total = 0

    def count(module: Any, _: Any, output: Any) -> None:
        nonlocal total
        places = output.shape[2] * output.shape[3] if output.ndim == 4 else 1
        total += module.weight.numel() * places

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    model.eval()
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return total


def params_of(model: Any) -> int:
    """Weights of all kinds, with the statistics, as Keras counts them."""
    return sum(tensor.numel() for tensor in torch_networks.tensors_of(model).values())


def pruned(model: Any, example: Any, ratio: float, across: bool) -> Any:
    """A copy without a share of its channels."""
    model = copy.deepcopy(model).eval()
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    pruner = torch_pruning.pruner.BasePruner(
        model,
        example,
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        global_pruning=across,
        ignored_layers=[last],
    )
    pruner.step()
    return model


def prune_to(model: Any, example: Any, limit: float, across: bool) -> tuple[Any, float]:
    """The copy with the smallest ratio at which no more than so many multiplications are left."""
    low, high = 0.0, 1.0
    best = None
    for _ in range(STEPS):
        middle = (low + high) / 2
        small = pruned(model, example, middle, across)
        if macs_of(small, example) <= limit:
            high, best = middle, small
        else:
            low = middle
    if best is None:
        raise ValueError(f"Torch-Pruning leaves more than {limit:,.0f} multiplications")
    return best, high


def work(job: Job) -> Job:
    """Carry the dense network over, prune it, judge it, tune it."""
    x, y, x_test, y_test = tuning.load(Path(job["arrays"]), job["images"])
    model, error = carried(job, x_test)
    example = tensor(tuning.scaled(x[:1]))
    macs, params = macs_of(model, example), params_of(model)
    if (macs, params) != (job["dense"]["macs"], job["dense"]["params"]):
        raise ValueError(f"PyTorch has {macs:,} multiplications and {params:,} parameters")
    found: Job = {"carry_error": error}
    if job["ratio"] < 1:
        across = job["method"].endswith("global")
        model, found["pruning_ratio"] = prune_to(model, example, job["ratio"] * macs, across)
        found["plain"] = accuracy(model, x_test, y_test)
        if any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
            batches = tuning.in_batches(x, y, tuning.RECALIBRATE)
            found["recalibrated"] = accuracy(recalibrated(model, batches), x_test, y_test)
        found["macs"] = macs_of(model, example) / macs
        found["params"] = params_of(model) / params
        tensors = torch_networks.tensors_of(model)
        found["kept"] = {n: t.shape[0] for n, t in tensors.items() if n.endswith("/kernel")}
    tune(model, x, y, job)
    return {**found, "after": accuracy(model, x_test, y_test)}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)

    def answer(job: Job) -> Job:
        start, cpu = time.perf_counter(), time.process_time()
        result = work(job)
        result["seconds"] = time.perf_counter() - start
        result["cpu_seconds"] = time.process_time() - cpu
        result["versions"] = {name: version(name) for name in ("torch", "torch-pruning")}
        return result

    serve(answer)


if __name__ == "__main__":
    assert sys.argv[1] == "torch"
    main()
