"""What all tests share: quiet TensorFlow, the folder of real data, small models."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; tests that ask for it carry the mark `data`."""
    folder = os.environ.get("TFPRUNE_DATA")
    if not folder:
        pytest.skip("TFPRUNE_DATA is not set: it names the folder with mnist/, fashion_mnist/ …")
    return Path(folder)
