"""Functions of the user's own."""

from pathlib import Path

import pytest

from tfprune.errors import OptionError
from tfprune.recipe.user_code import import_function


def test_a_function_is_found_here_and_in_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_own_models.py").write_text("def make(): return 3\nsize = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert import_function("my_own_models:make")() == 3
    assert import_function("os.path:join")("a", "b") == "a/b"
    with pytest.raises(OptionError, match=r"has no function 'mak'\. Known: make\. Did you mean"):
        import_function("my_own_models:mak")
    with pytest.raises(OptionError, match="has no function 'size'"):
        import_function("my_own_models:size")


def test_a_missing_module_is_one_line_but_its_own_errors_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OptionError, match="no module named 'gone_altogether'"):
        import_function("gone_altogether.inner:make")
    (tmp_path / "my_broken_models.py").write_text("import gone_inside\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="gone_inside"):
        import_function("my_broken_models:make")
