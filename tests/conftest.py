"""What all tests share: quiet TensorFlow, the folder of real data, small models."""

import os
from importlib.metadata import version
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_configure(config: pytest.Config) -> None:
    """Let an older Keras warn of what it does itself."""
    if tuple(map(int, version("keras").split(".")[:2])) < (3, 12):
        # A loaded model of one input expects a list of it, and warns when it is called without.
        config.addinivalue_line("filterwarnings", "ignore:The structure of `inputs` doesn't match")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; tests that ask for it carry the mark `data`."""
    folder = os.environ.get("TFPRUNE_DATA")
    if not folder:
        pytest.skip("TFPRUNE_DATA is not set: it names the folder with mnist/, fashion_mnist/ …")
    return Path(folder)
