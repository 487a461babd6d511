"""What all tests share: quiet TensorFlow, the folder of real data, the same numbers every time."""

import gc
import os
import random
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

import hypothesis
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# The same examples every time, so that a failure is the change's; `--hypothesis-profile=search`
# looks for new ones.
CALM = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("search", max_examples=1000, **CALM)
hypothesis.settings.register_profile("repeatable", derandomize=True, **CALM)
hypothesis.settings.load_profile("repeatable")


def pytest_configure(config: pytest.Config) -> None:
    """Let an older Keras warn of what it does itself."""
    (distribution,) = packages_distributions()["keras"]  # or keras-nightly
    if tuple(map(int, version(distribution).split(".")[:2])) < (3, 12):
        # A loaded model of one input expects a list of it, and warns when it is called without.
        config.addinivalue_line("filterwarnings", "ignore:The structure of `inputs` doesn't match")


def pytest_sessionstart() -> None:
    """Take Ctrl-C as a terminal does: a shell starts what it runs in the background without it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of garbage collection: it stays, and is a million objects."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup() -> None:
    """Seed what draws without a seed of its own, before any fixture is made."""
    if keras := sys.modules.get("keras"):
        keras.utils.set_random_seed(0)
    else:
        random.seed(0)
        np.random.seed(0)


@pytest.fixture(autouse=True)
def _determinism_stays_as_it_was() -> Iterator[None]:
    """Fail what leaves TensorFlow deterministic: models compile without XLA from there on."""
    yield
    if config := sys.modules.get("tensorflow.python.framework.config"):
        left_on = config.is_op_determinism_enabled()
        config.disable_op_determinism()
        assert not left_on, "enable_op_determinism() was called in the process of the tests"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; tests that ask for it carry the mark `data`."""
    folder = os.environ.get("TFPRUNE_DATA")
    if not folder:
        pytest.skip("TFPRUNE_DATA is not set: it names the folder with mnist/, fashion_mnist/ …")
    return Path(folder)
