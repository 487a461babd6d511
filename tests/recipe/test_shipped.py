"""The recipes inside the package."""

from pathlib import Path

import pytest

from tfprune.errors import RecipeError
from tfprune.recipe import find_recipe, load_recipe, shipped_recipes
from tfprune.recipe.shipped import headline

NAMES = list(shipped_recipes())


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_recipe_is_valid_and_described(name: str) -> None:
    path = find_recipe(name)
    load_recipe(path)
    assert len(headline(path.read_text())) > 20


def test_the_folder_is_the_only_source() -> None:
    folder = Path(__file__).parents[2] / "recipes"
    assert sorted(NAMES) == sorted(path.stem for path in folder.glob("*.toml"))
    assert "quickstart" in NAMES


def test_a_path_is_used_before_a_name_and_an_unknown_name_lists_the_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"Shipped: .*quickstart.* Did you mean quickstart\?"):
        find_recipe("quikstart.toml")
    Path("quickstart").write_text("")
    assert find_recipe("quickstart") == Path("quickstart")


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a folder, not a recipe. Give a .toml file or one of"):
        find_recipe(str(tmp_path))
    (tmp_path / "recipe.toml").write_text("")
    with pytest.raises(RecipeError, match=r"a folder, not a recipe. Did you mean .*recipe\.toml\?"):
        find_recipe(str(tmp_path))
