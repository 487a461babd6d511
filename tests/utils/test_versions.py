import importlib.metadata
from pathlib import Path

import keras
import pytest

from tfprune.utils.versions import version_of


def test_the_version_is_that_of_the_imported_package() -> None:
    assert version_of("keras") == keras.__version__
    assert version_of("pytest") == pytest.__version__


@pytest.mark.parametrize("package", ["tensorflow", "keras"])
def test_a_nightly_build_stands_for_its_package(tmp_path: Path, monkeypatch, package) -> None:
    name = {"tensorflow": "tf_nightly", "keras": "keras_nightly"}[package]
    folder = tmp_path / f"{name}-9.9.dev1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Name: {name.replace('_', '-')}\nVersion: 9.9.dev1\n")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert version_of(package) == "9.9.dev1"


@pytest.mark.parametrize("package", ["keras", "no-such-package"])
def test_a_missing_package_is_an_error(monkeypatch, package) -> None:
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        version_of(package)
