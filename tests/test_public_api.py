"""The public names and signatures are those that were last agreed on."""

import difflib
import inspect

import pytest

import tfprune
from tests import public_api
from tests.public_api import GOLDEN, Function, Module


def test_the_public_names_and_signatures_are_those_of_the_golden_file() -> None:
    agreed = GOLDEN.read_text("utf-8").splitlines()
    now = public_api.public_api().splitlines()
    diff = "\n".join(difflib.unified_diff(agreed, now, "agreed", "now", n=0, lineterm=""))
    assert not diff, f"if this is wanted, run `make api` and commit tests/golden:\n{diff}"


def functions() -> dict[str, tuple[Module, Function]]:
    """The public functions as they are found in the source."""
    found = {name: Module(f"tfprune.{home}").find(name) for name, home in tfprune._HOME.items()}
    return {
        name: one for name, one in found.items()
        if isinstance(one, tuple) and isinstance(one[1], Function)
    }  # fmt: skip


@pytest.mark.parametrize("name", functions())
def test_the_text_says_what_a_call_takes(name: str) -> None:
    """No decorator changes a signature after it was read."""
    _, node = functions()[name]
    taken = inspect.signature(getattr(tfprune, name)).parameters
    assert public_api.parameters(node) == list(taken)
    defaults = [one.name for one in taken.values() if one.default is not one.empty]
    spec = node.args
    written = [arg.arg for arg in spec.args[len(spec.args) - len(spec.defaults) :]]
    written += [
        arg.arg for arg, default in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if default
    ]
    assert written == defaults
