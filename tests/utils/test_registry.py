import pytest

from tfprune.errors import OptionError
from tfprune.utils.registry import Registry


def test_a_name_is_given_once() -> None:
    table: Registry[int] = Registry("score")
    table.register("one")(1)
    with pytest.raises(OptionError, match="score 'one' is registered already"):
        table.register("one")
    assert table["one"] == 1
    assert list(table) == ["one"]
    assert len(table) == 1


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    table: Registry[int] = Registry("score")
    table.register("magnitude")(1)
    with pytest.raises(OptionError, match=r"unknown score 'magnitud'.*Did you mean magnitude\?"):
        table["magnitud"]
