"""What a training step under int8 rounding costs: tensorflow-model-optimization beside tfprune.

    python benchmarks/qat_steps.py [--rounds 7]

Each library runs in a worker process of its own, tfprune on a Keras 3 model and tfmot on the same
model bridged to tf_keras. All bursts of a network take turns; a ratio compares two of one round.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from harness import publish, ratios_to, take_turns
from sparsity import by_peer, milliseconds, seconds, shown
from workers import Worker, peer_versions

NETWORKS = {
    "fashion_convnet": ("convnet 109k", 64, 60),
    "mlp": ("MLP 1.86M", 64, 40),
    "mobilenet": ("MobileNetV2 ½, 96²", 16, 4),
}
"""What a network is called, the size of its batches, and the steps of a burst."""
KINDS = {
    "plain": "in floats",
    "plain again": "in floats again (A/A)",
    "rounded": "rounded (QAT)",
    "zeros": "rounded, 50 % zeros kept (PQAT)",
    "clusters": "rounded, 50 % zeros and 16 clusters kept (PCQAT)",
}
COLUMNS = (
    "network", "training step", "tfmot (tf_keras)", "to floats", "tfprune (Keras 3)", "to floats",
    "tfprune to tfmot",
)  # fmt: skip

Samples = Mapping[str, Sequence[float]]


def steps(workers: Mapping[str, Worker], network: str, rounds: int) -> dict[str, Samples]:
    """Return CPU seconds of a training step by peer and kind."""
    _, batch, length = NETWORKS[network]
    cases = {}
    for kind in KINDS:
        for peer, worker in workers.items():
            job = {"network": network, "kind": kind, "batch": batch, "steps": length}
            cases[f"{peer}: {kind}"] = partial(seconds, worker, job)
    return by_peer(take_turns(cases, rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="of bursts; 7")
    options = parser.parse_args()
    rows: list[Sequence[str]] = []
    numbers: dict[str, Any] = {}
    with (
        Worker("quantize_steps.py", "tfmot") as tfmot,
        Worker("quantize_steps.py", "tfprune") as tfprune,
    ):
        for network, (title, *_) in NETWORKS.items():
            found = steps({"tfmot": tfmot, "tfprune": tfprune}, network, options.rounds)
            to_floats = {peer: ratios_to("plain", samples) for peer, samples in found.items()}
            beside = {
                kind: ratios_to("tfmot", {peer: found[peer][kind] for peer in found})["tfprune"]
                for kind in KINDS
            }
            numbers[title] = {
                "seconds": found,
                "tfprune_to_tfmot": {kind: asdict(ratio) for kind, ratio in beside.items()},
            }
            for kind, name in KINDS.items():
                cells = [
                    text
                    for peer in ("tfmot", "tfprune")
                    for text in (milliseconds(found[peer][kind]), shown(to_floats[peer][kind]))
                ]
                rows.append([title, name, *cells, shown(beside[kind])])
                print(*rows[-1], sep=" | ", flush=True)
            publish(
                "qat_steps",
                title="What a training step under int8 rounding costs",
                columns=COLUMNS,
                rows=rows,
                numbers=numbers,
                seeds=[0],
                remarks=[
                    "CPU time of the process, one thread, median [quartiles] of "
                    f"{options.rounds} bursts, all of a network interleaved; ratios are of bursts "
                    "of one round. Adam, `fit`, no XLA; batches of "
                    + ", ".join(f"{batch} ({title})" for title, batch, _ in NETWORKS.values())
                    + ". tfmot trains the model that `to_tf_keras` gives, by its default scheme "
                    "and those that preserve zeros and clusters.",
                    peer_versions(),
                ],
            )


if __name__ == "__main__":
    main()
