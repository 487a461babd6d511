"""The public names with their signatures, as text that changes only when they do.

    python -m tests.public_api        (or: make api)

Writes tests/golden/public_api.txt. The text is read from the source, so that no version of Keras or
TensorFlow shows in it, and names no modules, so that a move does not either. A default that is a
named constant is written as its value; the aliases that annotations use are explained at the end.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tfprune

PACKAGE = Path(tfprune.__file__).parent
GOLDEN = Path(__file__).parent / "golden" / "public_api.txt"

# Methods that every object has, and what a dataclass does with its fields.
COMMON = {"__str__", "__repr__", "__eq__", "__hash__", "__post_init__"}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef | ast.expr
"""What a name stands for: a function, a class, or the value that it was given."""


@dataclass(frozen=True)
class Module:
    """A module of the package, read and not imported."""

    name: str

    @property
    def path(self) -> Path:
        base = PACKAGE.parent.joinpath(*self.name.split("."))
        return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")

    def child(self, name: str) -> "Module | None":
        """The module of this name in a package."""
        found = Module(f"{self.name}.{name}")
        return found if found.path.exists() else None

    def find(self, name: str) -> "tuple[Module, Definition] | Module | None":
        """What a name stands for, and in which module; None if that is outside of the package."""
        for node in statements(self):
            if isinstance(node, Function | ast.ClassDef) and node.name == name:
                return self, node
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                return self, node.value
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tfprune"):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        source = Module(node.module or "")
                        return source.child(alias.name) or source.find(alias.name)
        return None

    def follow(self, node: ast.expr) -> "tuple[Module, Definition] | Module | None":
        """What `name` or `module.name` stands for."""
        if isinstance(node, ast.Name):
            return self.find(node.id)
        if isinstance(node, ast.Attribute):
            found = self.follow(node.value)
            return found.find(node.attr) if isinstance(found, Module) else None
        return None


@cache
def statements(module: Module) -> list[ast.stmt]:
    """The statements at the top of a module, those for type checkers included."""
    found = []
    for node in ast.parse(module.path.read_text("utf-8")).body:
        found += node.body if isinstance(node, ast.If) else [node]
    return found


class Writer(ast.NodeTransformer):
    """Rewrites annotations and defaults of a module: no quotes, no modules of the package.

    Attributes:
        aliases: What the names in annotations stand for, by a line each.
    """

    def __init__(self, module: Module, aliases: set[str]) -> None:
        self.module = module
        self.aliases = aliases

    def of(self, module: Module) -> "Writer":
        """One for another module, with the same aliases."""
        return Writer(module, self.aliases)

    def text(self, node: ast.expr) -> str:
        """The annotation, with the aliases in it explained."""
        return ast.unparse(self.visit(node))

    def default(self, node: ast.expr) -> str:
        """The default as it is written, or the number or text that its name stands for."""
        found = self.module.follow(node)
        if isinstance(found, tuple) and isinstance(found[1], ast.Constant):
            return ast.unparse(found[1])
        return ast.unparse(node)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str):
            return self.visit(ast.parse(node.value, mode="eval").body)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if ast.unparse(node.value) == "Literal":  # its texts are values
            return node
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._named(node, node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return self._named(node, node.attr)

    def _named(self, node: ast.expr, name: str) -> ast.expr:
        found = self.module.follow(node)
        if not isinstance(found, tuple):
            return node
        home, value = found
        if isinstance(value, ast.expr):
            alias = ast.unparse(value) if isinstance(value, ast.Call) else self.of(home).text(value)
            self.aliases.add(f"{name} = {alias}")
        return ast.Name(name)


def parameters(function: Function) -> list[str]:
    """The names of a function's parameters, in order."""
    spec = function.args
    star = [spec.vararg] if spec.vararg else []
    stars = [spec.kwarg] if spec.kwarg else []
    return [arg.arg for arg in [*spec.posonlyargs, *spec.args, *star, *spec.kwonlyargs, *stars]]


def signature(function: Function, write: Writer) -> str:
    """`(name: type = default, ...) -> type`."""
    spec = function.args

    def one(arg: ast.arg, default: ast.expr | None = None, stars: str = "") -> str:
        text = stars + arg.arg
        if arg.annotation is not None:
            text += f": {write.text(arg.annotation)}"
        return text if default is None else f"{text} = {write.default(default)}"

    plain = [*spec.posonlyargs, *spec.args]
    defaults = [*[None] * (len(plain) - len(spec.defaults)), *spec.defaults]
    words = [one(arg, default) for arg, default in zip(plain, defaults, strict=True)]
    if spec.posonlyargs:
        words.insert(len(spec.posonlyargs), "/")
    if spec.vararg:
        words.append(one(spec.vararg, stars="*"))
    elif spec.kwonlyargs:
        words.append("*")
    words += map(one, spec.kwonlyargs, spec.kw_defaults)
    if spec.kwarg:
        words.append(one(spec.kwarg, stars="**"))
    returns = f" -> {write.text(function.returns)}" if function.returns else ""
    return f"({', '.join(words)}){returns}"


def decorated(node: Function | ast.ClassDef) -> str:
    """The decorators, in front of what they decorate."""
    return "".join(f"@{ast.unparse(decorator)} " for decorator in node.decorator_list)


def members(module: Module, node: ast.ClassDef, aliases: set[str]) -> dict[str, str]:
    """The public methods and attributes of a class, those of its bases in the package included."""
    found: dict[str, str] = {}
    for base in node.bases:
        home = module.follow(base)
        if isinstance(home, tuple) and isinstance(home[1], ast.ClassDef):
            found |= members(*home, aliases)
    write = Writer(module, aliases)
    for part in node.body:
        if isinstance(part, ast.AnnAssign):
            default = "" if part.value is None else f" = {write.default(part.value)}"
            name = ast.unparse(part.target)
            found[name] = f"{name}: {write.text(part.annotation)}{default}"
        elif isinstance(part, Function):
            found[part.name] = f"{decorated(part)}{part.name}{signature(part, write)}"
            for name in attributes(part):
                found.setdefault(name, name)
    return {
        name: line
        for name, line in found.items()
        if name not in COMMON and (not name.startswith("_") or name.endswith("__"))
    }


def attributes(method: Function) -> Iterator[str]:
    """The names that a method gives values to, as `self.name = ...`."""
    for node in ast.walk(method):
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if stored and ast.unparse(node.value) == "self":
            yield node.attr


def describe(name: str, module: Module, node: Definition, aliases: set[str]) -> Iterator[str]:
    """The lines of a function, class or constant."""
    write = Writer(module, aliases)
    if isinstance(node, Function):
        yield f"{decorated(node)}function {name}{signature(node, write)}"
    elif isinstance(node, ast.ClassDef):
        bases = [ast.unparse(base) for base in node.bases]
        bases = [base for base in bases if not base.startswith("_")]
        yield f"{decorated(node)}class {name}" + (f"({', '.join(bases)})" if bases else "")
        for line in members(module, node, aliases).values():
            yield f"    {name}.{line}"
    else:
        yield f"constant {name} = {ast.unparse(node)}"


def describe_module(name: str, module: Module, aliases: set[str]) -> Iterator[str]:
    """The lines of a public module: the names in its `__all__`, or else what it defines."""
    yield f"module {name}"
    listed = module.find("__all__")
    if isinstance(listed, tuple) and isinstance(listed[1], ast.expr):
        names = ast.literal_eval(listed[1])
    else:
        names = [
            node.name
            for node in statements(module)
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
        ]
    for inner in names:
        found = module.find(inner)
        if isinstance(found, tuple):
            for line in describe(f"{name}.{inner}", *found, aliases):
                yield f"    {line}"
        else:
            yield f"    module {name}.{inner}"


def public_api() -> str:
    """The whole text."""
    lines: list[str] = []
    aliases: set[str] = set()
    for name, home in sorted(tfprune._HOME.items()):
        module = Module(f"tfprune.{home}")
        found = module.find(name) or module.child(name)
        if isinstance(found, tuple):
            lines += describe(name, *found, aliases)
        elif found is not None:
            lines += describe_module(name, found, aliases)
        else:
            raise LookupError(f"_HOME: tfprune.{home} does not define {name}")
    return "\n".join([*lines, "", "where", *(f"    {line}" for line in sorted(aliases))]) + "\n"


if __name__ == "__main__":
    GOLDEN.write_text(public_api(), "utf-8")
