"""A check that every structure test leans on: shrink, prove, save, load, compare."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import tree

import tfprune
from tfprune.structure.groups.units import units
from tfprune.structure.report import ShrinkReport


@pytest.fixture(autouse=True)
def _fresh_session() -> Iterator[None]:
    keras.utils.set_random_seed(7)
    yield
    keras.backend.clear_session(free_memory=False)


@pytest.fixture
def loose_inputs() -> bool:
    """Whether this Keras has models with an input that does not reach an output."""
    used, unused = keras.Input((1,)), keras.Input((1,))
    try:
        keras.Model([used, unused], keras.layers.Identity()(used))
    except ValueError:
        return False
    return True


def inputs_for(model: Any, samples: int = 3) -> Any:
    """Random inputs for a model, of indices where it embeds them."""
    rng = np.random.default_rng(1)
    struct = model.inputs[0] if isinstance(model, keras.Sequential) else model._inputs_struct

    def one(tensor: Any) -> np.ndarray:
        shape = (samples, *(8 if size is None else size for size in tensor.shape[1:]))
        if "int" in keras.backend.standardize_dtype(tensor.dtype):
            return rng.integers(0, 2, shape).astype("int32")
        return rng.normal(size=shape).astype("float32")

    return tree.map_structure(one, struct)


Check = Callable[..., tuple[Any, ShrinkReport]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Shrink a model at several ratios; each result is proven, saved, loaded and compared."""

    def run(model: Any, *, ratios: tuple = (0.75, 0.5, 0.25), exact: bool = True, **options: Any):
        before = [weight.copy() for weight in model.get_weights()]
        nodes = {
            id(layer): (len(layer._inbound_nodes), len(layer._outbound_nodes))
            for layer in model._flatten_layers()
        }
        options = {"ranking": "uniform", "round_to": 1, **options}
        for ratio in ratios:
            small, report = tfprune.shrink(model, {"channels": ratio}, **options)
            assert report.error is not None
            assert report.error <= 1e-4
            assert report.exact is exact, report.reasons
            assert report.after.params == small.count_params()
            if ratio <= 0.5:
                assert report.after.params < report.before.params
            path = tmp_path / f"small_{ratio}.keras"
            small.save(path)
            loaded = keras.models.load_model(path)
            data = inputs_for(small)
            for a, b in zip(
                tree.flatten(small(data, training=False)),
                tree.flatten(loaded(data, training=False)),
                strict=True,
            ):
                np.testing.assert_allclose(
                    np.asarray(a, np.float64), np.asarray(b, np.float64), atol=1e-6
                )
        for old, new in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        for layer in model._flatten_layers():
            assert (len(layer._inbound_nodes), len(layer._outbound_nodes)) == nodes[id(layer)]
        return small, report

    return run


def sizes(model: Any) -> dict[str, int]:
    """The number of units in each group, by name."""
    return {group.name: len(group.units) for group in units(model)}


@pytest.fixture(name="sizes")
def _sizes() -> Callable[[Any], dict[str, int]]:
    return sizes
