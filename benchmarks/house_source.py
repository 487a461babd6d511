"""The source of a package: its modules, what they import, and what they define.

Nothing of it is imported. A folder is one that holds modules; a module right under the package
stands for itself. Imports under `if TYPE_CHECKING:` are never carried out, and are left out.
"""

import ast
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PACKAGE = "tfprune"

Graph = Mapping[str, set[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One name that a module imports.

    Attributes:
        module: Where it stands.
        line: The line.
        name: The module that is imported, with its packages.
        inside: It stands in a function, and is carried out when that is called.
    """

    module: str
    line: int
    name: str
    inside: bool

    @property
    def top(self) -> str:
        """The package it is of."""
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class House:
    """The modules of a package.

    Attributes:
        files: The file of each module; a package is its `__init__.py`.
    """

    files: Mapping[str, Path]

    @cached_property
    def trees(self) -> dict[str, ast.Module]:
        """What each module says."""
        return {name: ast.parse(path.read_text("utf-8")) for name, path in self.files.items()}

    @cached_property
    def imports(self) -> list[Import]:
        """All imports, in the order of the files."""
        return [
            entry for name, tree in self.trees.items() for entry in self._read(name, tree, False)
        ]

    def _read(self, module: str, node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in _carried_out(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(module, child.lineno, alias.name, inside)
            elif isinstance(child, ast.ImportFrom):
                # Several names of one module are one import.
                for name in dict.fromkeys(self._sources(module, child)):
                    yield Import(module, child.lineno, name, inside)
            else:
                yield from self._read(module, child, inside or isinstance(child, Function))

    def _sources(self, module: str, node: ast.ImportFrom) -> Iterator[str]:
        """The modules that `from ... import a, b` reads: of names, and of modules as names."""
        base = self._base(module, node)
        for alias in node.names:
            whole = f"{base}.{alias.name}"
            yield whole if whole in self.files else base

    def _base(self, module: str, node: ast.ImportFrom) -> str:
        """The module after `from`, with its packages where dots stand for them."""
        if not node.level:
            return node.module or ""
        folder = module.split(".") if self.is_package(module) else module.split(".")[:-1]
        folder = folder[: len(folder) - node.level + 1]
        return ".".join([*folder, *filter(None, [node.module])])

    def is_package(self, module: str) -> bool:
        """Tell a folder from a file."""
        return self.files[module].name == "__init__.py"

    def folder(self, module: str) -> str:
        """Return the folder of a module; one right under the package stands for itself."""
        if self.is_package(module) or module.count(".") == 1:
            return module
        return module.rpartition(".")[0]

    def module_graph(self, inside: bool) -> Graph:
        """Return which modules each module imports, with or without those inside functions."""
        graph: dict[str, set[str]] = {name: set() for name in self.files}
        for entry in self.imports:
            if entry.name in self.files and (inside or not entry.inside):
                graph[entry.module] |= {entry.name} - {entry.module}
        return graph

    def folder_graph(self, inside: bool) -> Graph:
        """Return which folders each folder imports."""
        graph: dict[str, set[str]] = {self.folder(name): set() for name in self.files}
        for module, names in self.module_graph(inside).items():
            own = self.folder(module)
            graph[own] |= {self.folder(name) for name in names} - {own}
        return graph

    def folder_sizes(self) -> Counter[str]:
        """Return how many modules lie in each folder, `__init__.py` left out."""
        sizes: Counter[str] = Counter()
        for name in self.files:
            if not self.is_package(name):
                sizes[name.rpartition(".")[0]] += 1
        return sizes

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Give all functions and methods with their module."""
        for name, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, Function):
                    yield name, node

    def paths_in_strings(self) -> list[str]:
        """Return where strings name modules of the package, docstrings left out."""
        found = []
        for module, tree in self.trees.items():
            prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            for node in ast.walk(tree):
                text = node.value if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and id(node) not in prose:
                    found += [f"{module}:{node.lineno} {path}" for path in self._paths(text)]
        return found

    def _paths(self, text: str) -> Iterator[str]:
        for match in re.finditer(rf"\b{PACKAGE}(?:\.\w+)+(?::\w+)?", text):
            module = match[0].partition(":")[0]
            # Of `tfprune.a.function`, `tfprune.a` is the module; `tfprune.function` names none.
            while module.count(".") and module not in self.files:
                module = module.rpartition(".")[0]
            if module.count("."):
                yield match[0]

    def names(self, kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> dict[str, list[str]]:
        """Return which modules define each name of a kind at their top."""
        found = defaultdict(list)
        for module, tree in self.trees.items():
            # `typing.overload` and the like define one name several times in a module.
            for name in dict.fromkeys(node.name for node in tree.body if isinstance(node, kind)):
                found[name].append(module)
        return dict(found)

    def door(self, name: str) -> Function:
        """Return the function that a public name stands for."""
        (homes,) = [
            ast.literal_eval(node.value)
            for node in self.trees[PACKAGE].body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME"
        ]
        return self._function(f"{PACKAGE}.{homes[name]}", name)

    def _function(self, module: str, name: str) -> Function:
        """The function of a name in a module, or in the one that it takes it from."""
        for node in self.trees[module].body:
            if isinstance(node, Function) and node.name == name:
                return node
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
                return self._function(self._base(module, node), name)
        raise LookupError(f"{module} defines no function {name}, and imports none")


def _carried_out(node: ast.AST) -> Iterator[ast.AST]:
    """Give the children of a node, but for what only type checkers read."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        yield from node.orelse
    else:
        yield from ast.iter_child_nodes(node)


def read(root: Path) -> House:
    """Return the package of a checkout.

    Raises:
        SystemExit: There is none.
    """
    if not (root / PACKAGE / "__init__.py").exists():
        raise SystemExit(f"--root {root}: expected a checkout with the folder {PACKAGE}/")
    files = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return House(files)


def commit_of(root: Path) -> str:
    """Return the commit of a checkout; empty outside of a repository."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
    )
    return done.stdout.strip()
