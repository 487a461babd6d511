"""How long removing half of all channels takes: Torch-Pruning beside tfprune.

    python benchmarks/structure.py [--rounds 5] [--torch PYTHON]

Each library runs in worker processes of its own, on the same four architectures with random
weights, and they take turns. Torch-Pruning and its PyTorch may live in another environment than
tfprune: --torch names its interpreter.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from harness import publish, take_turns
from workers import Job, Worker

NETWORKS = {
    "resnet50": "ResNet-50",
    "mobilenet_v2": "MobileNetV2",
    "vit_b16": "ViT-B/16",
    "bert_base": "BERT-base",
}
TORCH, TORCH_ONE = "Torch-Pruning", "Torch-Pruning, one thread"
PLAIN, VERIFIED = "tfprune, verify=False", "tfprune"
COLUMNS = (TORCH, TORCH_ONE, PLAIN, VERIFIED)


class Peers:
    """The workers, and what each column asks of which."""

    def __init__(self, torch: str) -> None:
        self.torch = torch
        self.workers: dict[str, Worker] = {}

    def start(self, column: str) -> Worker:
        """A new worker for a column."""
        if column in (TORCH, TORCH_ONE):
            threads = "1" if column == TORCH_ONE else "default"
            return Worker("structure_torch.py", threads, self.torch)
        return Worker("structure_keras.py", "tfprune")

    def answer(self, column: str, job: Job) -> Job:
        """What a column's worker says; both columns of tfprune share one."""
        key = PLAIN if column == VERIFIED else column
        if key not in self.workers:
            self.workers[key] = self.start(key)
        return self.workers[key].ask({**job, "verify": column == VERIFIED})

    def stop(self) -> None:
        """End all workers."""
        for worker in self.workers.values():
            worker.__exit__()
        self.workers.clear()


def times(peers: Peers, network: str, rounds: int) -> dict[str, list[Job]]:
    """Every answer of every column, in rounds that take turns; the first round is not counted."""
    answers: dict[str, list[Job]] = {column: [] for column in COLUMNS}

    def case(column: str) -> float:
        answers[column].append(peers.answer(column, {"do": "time", "network": network}))
        return float(answers[column][-1]["wall_seconds"])

    take_turns({column: partial(case, column) for column in COLUMNS}, rounds + 1)
    return {column: found[1:] for column, found in answers.items()}


def memory(peers: Peers, network: str) -> dict[str, int]:
    """What the work adds to a fresh process at its peak, by column; threads do not matter."""
    found = {}
    for column in (TORCH_ONE, PLAIN, VERIFIED):
        with peers.start(column) as worker:
            job = {"do": "memory", "network": network, "verify": column == VERIFIED}
            found[column] = int(worker.ask(job)["peak_bytes"])
    return found


def seconds(values: Sequence[float]) -> str:
    q1, median, q3 = np.percentile(values, (25, 50, 75))
    return f"{median:.2f} s [{q1:.2f}–{q3:.2f}]"


def row(name: str, answers: Mapping[str, list[Job]], peaks: Mapping[str, int]) -> list[str]:
    """One network's line of the table."""
    cells = [seconds([answer["wall_seconds"] for answer in answers[c]]) for c in COLUMNS]
    sizes = [
        f"{answers[c][0]['before'] / 1e6:.1f} M → {answers[c][0]['after'] / 1e6:.1f} M"
        for c in (TORCH, VERIFIED)
    ]
    memories = " / ".join(f"{peaks[c] / 2**20:.0f}" for c in (TORCH_ONE, PLAIN, VERIFIED))
    return [name, *cells, " / ".join(sizes), memories]


def main() -> None:
    """Measure all networks and publish the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--torch", default=sys.executable, help="the interpreter of Torch-Pruning")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    options = parser.parse_args()
    peers = Peers(options.torch)
    rows: list[list[str]] = []
    numbers: dict[str, Any] = {}
    try:
        versions = peers.answer(TORCH, {"do": "versions"})
        for network in options.networks:
            answers = times(peers, network, options.rounds)
            peaks = memory(peers, network)
            rows.append(row(NETWORKS[network], answers, peaks))
            print(*rows[-1], sep=" | ", flush=True)
            numbers[network] = {"answers": answers, "peak_bytes": peaks}
    finally:
        peers.stop()
    publish(
        "structure",
        title="Removing half of all channels: how long it takes",
        columns=("network", *COLUMNS, "parameters", "peak memory, MiB"),
        rows=rows,
        numbers={"peer": versions, "networks": numbers},
        seeds=[0],
        remarks=[
            f"Wall time, median of {options.rounds} [quartiles], each library in warm processes of "
            "its own that take turns: from a model to the smaller one. Half of the units of every "
            "group by their l2 norm, counts in multiples of 8, classes kept, attention heads kept "
            "and made narrower. Torch-Pruning cuts in place and checks nothing; it runs with "
            "PyTorch's own choice of threads, and with one, which its many small operations like "
            "better here. tfprune runs with one thread; it builds a new model and, unless "
            "verify=False, proves it against the original by running both. The parameters are "
            "those of Torch-Pruning, which rounds counts down, and of tfprune. Peak memory is "
            "what one call adds to a fresh process: Torch-Pruning / tfprune, verify=False / "
            "tfprune. CPU times are in the JSON.",
            "The peer: " + ", ".join(f"{name} {text}" for name, text in versions.items()) + ".",
        ],
    )  # fmt: skip


if __name__ == "__main__":
    main()
