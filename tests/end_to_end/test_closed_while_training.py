"""Channels closed on a schedule while a tiny convnet trains on digits, then really removed."""

import json
from pathlib import Path

import keras
import pytest

import tfprune
from tfprune.pipeline import compress

RECIPE = {
    "model": {"source": "convnet", "options": {"width": 8}},
    "data": {"source": "digits", "limit": 400},
    "train": {"epochs": 3, "batch_size": 32, "learning_rate": 3e-3},
    "prune": {"pattern": "channel", "sparsity": 0.5, "epochs": 4, "learning_rate": 3e-3},
    "shrink": {"target": "zeros", "epochs": 1},
    "measure": {"runs": 3},
}


@pytest.mark.slow
def test_a_recipe_closes_channels_and_removes_them(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = compress(None, RECIPE, out=out)
    baseline = keras.models.load_model(out / "baseline.keras")
    pruned = keras.models.load_model(out / "pruned.keras")
    groups = {group.name: len(group.units) for group in tfprune.units(baseline)}
    # Fine-tuning came after the removal, so only the sizes are those of the closed channels.
    assert {g.name: len(g.units) for g in tfprune.units(result.model)} == {
        name: size // 2 for name, size in groups.items()
    }
    assert pruned.count_params() == baseline.count_params()
    small, report = tfprune.shrink(pruned, "zeros")
    assert report.error <= 1e-5
    assert small.count_params() == result.model.count_params() < 0.4 * baseline.count_params()
    stages = list(json.loads((out / "state.json").read_text())["stages"])
    assert stages.index("prune") < stages.index("shrink") < stages.index("quantize")
    assert "Removed channels, neurons, heads and blocks" in (out / "report.md").read_text()
