"""A small problem that trains in a second, and one run of it for all tests that only look."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfprune.pipeline.datasets import Dataset, as_dataset

TINY: dict[str, Any] = {
    "model": {"source": "mlp", "options": {"width": 16}},
    "train": {"epochs": 4, "learning_rate": 0.02, "batch_size": 16},
    "prune": {"sparsity": 0.5, "epochs": 3, "learning_rate": 0.02},
    "quantize": {"scheme": "int8", "calibration": 50},
    "measure": {"runs": 3},
    "gate": {"max_accuracy_drop": 0.5},
}


@pytest.fixture(scope="session")
def tiny_data() -> Dataset:
    """Two classes that the sign of the first number tells apart."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    return as_dataset(((x[:160], y[:160]), (x[160:], y[160:])))


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """A recipe without [data] that takes a second or two."""
    return TINY


@pytest.fixture(scope="session")
def finished(tiny_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of a tiny run in a folder. Tests must leave it as it is."""
    from tfprune.pipeline import compress

    folder: Path = tmp_path_factory.mktemp("runs") / "tiny"
    return compress(None, TINY, tiny_data, out=folder)
