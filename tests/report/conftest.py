"""A report with something in every field."""

import pytest

from tfprune.report import (
    Conditions,
    Curve,
    Gate,
    Kernel,
    Ratio,
    Report,
    Row,
    Section,
    Stage,
)


@pytest.fixture
def report() -> Report:
    """A baseline and two candidates; one gate is missed."""
    conditions = Conditions(
        device="host",
        machine="Some <CPU> & co, 2 cores",
        system="Linux x86_64",
        runtime="ai-edge-litert 2.3.0",
        threads=1,
        runs=50,
        clock="thread CPU time",
        noise=Ratio(1.0, 0.98, 1.02, 50),
    )
    kernels = (Kernel("conv/kernel", (3, 3, 1, 8), 54), Kernel("head/kernel", (200, 10), 1800))
    rows = (
        Row("dense", 1_000_000, 900_000, scheme="float32", score=0.98, median_ms=0.4, q1_ms=0.39,
            q3_ms=0.41, p90_ms=0.42, weights=2072, weight_zeros=0, params=2090, zeros=0),
        Row("int8 & pruned", 250_000, 60_000, scheme="int8", score=0.97, agreement=0.985,
            max_abs_error=0.03, median_ms=0.2, q1_ms=0.19, q3_ms=0.21, p90_ms=0.25,
            latency_ratio=Ratio(0.5, 0.48, 0.51, 50), weights=2072, weight_zeros=1854,
            params=2090, zeros=1854, macs=9200, peak_bytes=5_000_000, kernels=kernels),
        Row("copy", 1_000_000, 900_000, score=0.98, agreement=1.0, median_ms=0.4,
            q1_ms=0.39, q3_ms=0.41, p90_ms=0.42, latency_ratio=Ratio(1.0, 0.99, 1.01, 50)),
    )  # fmt: skip
    plain = Report(
        "Digits",
        rows,
        samples=540,
        conditions=conditions,
        versions={"tfprune": "0.1.0"},
    )
    return plain.with_run(
        stages=[Stage("train", 75.0, "8 epochs"), Stage("prune", 3.2)],
        history=[
            Curve("loss", (0.9, 0.5, 0.4), "train"),
            Curve("val_loss", (0.8, 0.6, 0.5), "train"),
            Curve("loss", (0.45, 0.42), "prune"),
            Curve("sparsity", (0.5, 0.9), "prune"),
        ],
        sections=[Section("Layers", "What was done.", ("layer", "sparsity"),
                          (("conv", 0.75), ("odd | name", None)))],
        notes=["conv <1>: kept dense"],
        recipe="[prune]\nsparsity = 0.9\n",
    ).with_gate(
        Gate(max_accuracy_drop=0.01, min_compression=10, max_latency_ratio=1.1)
    )  # fmt: skip
