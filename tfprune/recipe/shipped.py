"""The recipes that come with tfprune."""

import importlib.resources
from importlib.resources.abc import Traversable
from pathlib import Path

from tfprune.errors import RecipeError, nearest


def shipped_recipes() -> dict[str, Traversable]:
    """Return the recipes inside the package, by name.

    Example:
        >>> "quickstart" in shipped_recipes()
        True
    """
    files = importlib.resources.files("tfprune.recipes").iterdir()
    found = {file.name.removesuffix(".toml"): file for file in files if file.name[-5:] == ".toml"}
    return dict(sorted(found.items()))


def find_recipe(name: str) -> Path:
    """Return the file of a recipe, given by its path or the name of a shipped recipe.

    Raises:
        RecipeError: If it is neither; the message lists the shipped ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if name in shipped:
        return Path(str(shipped[name]))
    if path.is_dir():
        inside = path / "recipe.toml"
        hint = f"Did you mean {inside}?" if inside.is_file() else (
            f"Give a .toml file or one of {', '.join(shipped)}."
        )  # fmt: skip
        raise RecipeError(f"{name}: a folder, not a recipe. {hint}")
    hint = nearest(path.name.removesuffix(".toml"), shipped).replace("Known", "Shipped", 1)
    raise RecipeError(f"{name}: no such file or shipped recipe. {hint}")


def headline(text: str) -> str:
    """Return the first comment of a recipe, its description.

    Example:
        >>> headline("# Does it.\\n\\n[model]\\n")
        'Does it.'
    """
    return text.lstrip().partition("\n")[0].lstrip("# ").strip()
