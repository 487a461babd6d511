"""The public names as a type checker sees them: all there, with the types of their homes."""

import ast
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tfprune

HERE = Path(__file__).parent
PACKAGE = Path(tfprune.__file__).parent


def typed_names() -> dict[str, str]:
    """Return the names that `if TYPE_CHECKING:` imports, and the modules below tfprune they are of.

    A name counts only as `import name as name`: any other is private to a type checker.
    """
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [
        node for node in tree.body if isinstance(node, ast.If) and "TYPE" in ast.unparse(node.test)
    ]
    return {
        alias.name: node.module.removeprefix("tfprune.")
        for node in block.body
        for alias in node.names
        if alias.asname == alias.name
    }


def test_type_checkers_see_every_public_name() -> None:
    wanted = "\n".join(
        f"    from tfprune.{home} import {name} as {name}" for name, home in tfprune._HOME.items()
    )
    assert typed_names() == tfprune._HOME, f"the block under TYPE_CHECKING should be\n{wanted}"


def test_the_installed_package_says_that_it_is_typed() -> None:
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg", encoding="utf-8")
    assert "py.typed" in config["options.package_data"]["tfprune"].split()
    assert (PACKAGE / "py.typed").exists()


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy prints for both scripts, with the package as it lies among those installed.

    An editable install is found by a hook that type checkers do not run, so the package is put on
    the path by a link.
    """
    site = tmp_path_factory.mktemp("site")
    (site / "tfprune").symlink_to(PACKAGE, target_is_directory=True)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file=", "--strict", "--hide-error-context",
         "--disable-error-code=import-untyped", f"--cache-dir={site / 'cache'}", "--no-pretty",
         "user_script.py", "wrong_script.py"],
        cwd=HERE, env={**os.environ, "PYTHONPATH": str(site)}, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr or done.stdout
    return done.stdout.splitlines()


def said(lines: list[str], script: str, kind: str) -> dict[int, str]:
    """Return what is printed of a kind, as `error`, by line of a script."""
    found = [re.match(rf"{script}:(\d+): {kind}:? (.*)", line) for line in lines]
    return {int(match[1]): match[2] for match in found if match}


def expected(script: str, kind: str) -> dict[int, str]:
    """Return what a script says of its lines, in comments of a kind."""
    lines = enumerate((HERE / script).read_text().splitlines(), 1)
    return {
        number: line.partition(f"# {kind}: ")[2] for number, line in lines if f"# {kind}: " in line
    }


def test_a_script_that_uses_every_name_has_no_error(checked) -> None:
    assert said(checked, "user_script.py", "error") == {}
    source = (HERE / "user_script.py").read_text()
    assert set(re.findall(r"tfprune\.(\w+)", source)) == set(tfprune.__all__)


def test_results_have_precise_types(checked) -> None:
    notes = said(checked, "user_script.py", "note: Revealed type is")
    types = {line: short(text) for line, text in notes.items()}
    assert types == expected("user_script.py", "reveal")


def short(text: str) -> str:
    """Return the type that mypy reveals, without the modules of its names."""
    (kind,) = re.findall(r'"(.*)"', text)
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", kind)


def test_wrong_calls_are_errors_that_name_what_is_wrong(checked) -> None:
    errors = said(checked, "wrong_script.py", "error")
    wanted = expected("wrong_script.py", "error")
    assert errors.keys() == wanted.keys()
    for line, text in wanted.items():
        assert errors[line].startswith(text)
