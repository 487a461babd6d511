"""What pruning costs: tensorflow-model-optimization beside tfprune, in CPU time.

    python benchmarks/sparsity.py [--rounds 7]

Each library runs in a worker process of its own, with plain models of its own generation of Keras
beside the pruned ones. Plain and pruned bursts take turns inside a process, and so do the two
processes; a ratio compares bursts of one round in one process.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
from harness import publish, ratios_to, take_turns
from workers import Worker, peer_versions

from tfprune.report.data import Ratio

PEERS = {"tfmot": "tfmot (tf_keras)", "tfprune": "tfprune (Keras 3)"}
STEPS = (
    ("convnet", False, 2, "convnet 57k"),
    ("mlp", False, 1, "MLP 1.86M"),
    ("mlp", True, 1, "MLP 1.86M, XLA"),
)
"""Network, whether XLA compiles it, how many times the rounds, and what it is called."""
BURSTS = {"plain": 100, "plain again": 100, "100": 100, "10": 100, "1": 10}
"""Steps of a burst by what runs: a plain model, or a pruned one and its steps between updates."""

Samples = Mapping[str, Sequence[float]]


def steps(
    workers: Mapping[str, Worker], network: str, rounds: int, jit: bool
) -> dict[str, Samples]:
    """Return CPU seconds of a training step by peer and kind of burst."""
    cases = {}
    for kind, length in BURSTS.items():
        for peer, worker in workers.items():
            job = {"do": "burst", "network": network, "kind": kind, "steps": length, "jit": jit}
            cases[f"{peer}: {kind}"] = partial(seconds, worker, job)
    return by_peer(take_turns(cases, rounds))


def updates(workers: Mapping[str, Worker], weights: int, rounds: int) -> dict[str, Samples]:
    """Return CPU seconds of a mask update by peer, on dense weights and on 80 % zeros."""
    cases = {}
    for name, zeros in (("dense", False), ("80 % zero", True)):
        for peer, worker in workers.items():
            job = {"do": "mask_update", "weights": weights, "zeros": zeros}
            cases[f"{peer}: {name}"] = partial(seconds, worker, job)
    return by_peer(take_turns(cases, rounds))


def first_batches(workers: Mapping[str, Worker], rounds: int) -> dict[str, Samples]:
    """Return CPU seconds from a built MobileNetV2 to its first trained batch, by peer."""
    cases = {}
    for kind in ("plain", "pruned"):
        for peer, worker in workers.items():
            cases[f"{peer}: {kind}"] = partial(seconds, worker, {"do": "first", "kind": kind})
    return by_peer(take_turns(cases, rounds))


def seconds(worker: Worker, job: dict[str, Any]) -> float:
    answer: float = worker.ask(job)["seconds"]
    return answer


def by_peer(samples: Samples) -> dict[str, Samples]:
    found: dict[str, Samples] = {}
    for name, values in samples.items():
        peer, _, kind = name.partition(": ")
        found[peer] = {**found.get(peer, {}), kind: values}
    return found


def shown(ratio: Ratio) -> str:
    digits = 2 if ratio.median > 0.2 else 3
    return " ".join(
        [f"{ratio.median:.{digits}f}", f"[{ratio.q1:.{digits}f}–{ratio.q3:.{digits}f}]"]
    )


def milliseconds(values: Sequence[float]) -> str:
    q1, median, q3 = np.percentile(values, (25, 50, 75)) * 1e3
    return f"{median:,.1f} ms [{q1:,.1f}–{q3:,.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="of bursts; 7")
    options = parser.parse_args()
    rows: list[Sequence[str]] = []
    numbers: dict[str, Any] = {}

    def tell(
        title: str, found: Mapping[str, Samples], baseline: str | None, names: Mapping[str, str]
    ) -> None:
        numbers[title] = {"seconds": found}
        ratios = {
            peer: ratios_to(baseline, samples) if baseline else {}
            for peer, samples in found.items()
        }
        if not baseline:
            # Two processes: what one round gave in each.
            for kind in found["tfmot"]:
                pair = {peer: found[peer][kind] for peer in PEERS}
                ratios["tfprune"][kind] = ratios_to("tfmot", pair)["tfprune"]
        numbers[title]["ratios"] = {
            peer: {kind: asdict(ratio) for kind, ratio in of_peer.items()}
            for peer, of_peer in ratios.items()
        }
        for kind, name in names.items():
            cells = []
            for peer in PEERS:
                cells.append(milliseconds(found[peer][kind]))
                cells.append(shown(ratios[peer][kind]) if kind in ratios[peer] else "1")
            rows.append([title, name, *cells])
            print(*rows[-1], sep=" | ", flush=True)

    with (
        Worker("train_steps.py", "tfmot") as tfmot,
        Worker("train_steps.py", "tfprune") as tfprune,
    ):
        workers = {"tfmot": tfmot, "tfprune": tfprune}
        kinds = {
            "plain": "plain", "plain again": "plain again (A/A)", "100": "pruned, update every 100",
            "10": "pruned, update every 10", "1": "pruned, update every step",
        }  # fmt: skip
        for network, jit, times, title in STEPS:
            found = steps(workers, network, times * options.rounds, jit=jit)
            tell(f"{title}, training step", found, "plain", kinds)
        for weights in (1_000_000, 10_000_000):
            found = updates(workers, weights, max(options.rounds - 2, 3))
            names = {"dense": "dense weights", "80 % zero": "weights 80 % zero"}
            tell(f"mask update, {weights:,} weights", found, None, names)
        found = first_batches(workers, max(options.rounds // 2, 3))
        names = {"plain": "plain", "pruned": "pruned"}
        tell("MobileNetV2 ½, 96², first batch", found, "plain", names)
    publish(
        "sparsity",
        title="What pruning costs",
        columns=(
            "what", "case", "tfmot (tf_keras)", "ratio", "tfprune (Keras 3)", "ratio",
        ),
        rows=rows,
        numbers=numbers,
        seeds=[0],
        remarks=[
            "CPU time of the process, one thread, median [quartiles], plain and pruned bursts "
            f"interleaved; steps {options.rounds} rounds or more, mask updates "
            f"{max(options.rounds - 2, 3)}, first batches {max(options.rounds // 2, 3)}. A burst "
            "at an update every step is ten steps long and carries the start of `fit`. Ratios of "
            "steps and of first batches "
            "are to the plain model of the same process and round; those of mask updates are "
            "tfprune's time over tfmot's. Batch 64, Adam, `fit`; the sparsity asked for rises "
            "with every update, so that none can be left out. The first batch includes pruning "
            "and compiling.",
            peer_versions(),
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
