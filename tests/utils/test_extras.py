import pytest

from tfprune.errors import OptionError
from tfprune.utils.extras import installed, require


def test_missing_packages_are_named() -> None:
    require("this", "onnx", "pytest", "json")
    with pytest.raises(OptionError, match=r"this needs onyx, noox: pip install 'tfprune\[onnx\]'"):
        require("this", "onnx", "json", "onyx", "noox")


def test_all_have_to_be_installed() -> None:
    assert installed("json", "pytest")
    assert not installed("json", "onyx")
