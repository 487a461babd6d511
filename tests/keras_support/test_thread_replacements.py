import threading
from types import SimpleNamespace

import pytest

from tfprune.keras_support.thread_replacements import replaced


class Box:
    def __init__(self):
        self.inner = 1

    @property
    def value(self):
        return self.inner

    def doubled(self):
        return 2 * self.inner


def elsewhere(function):
    """What a function gives in another thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def plus(number):
    return lambda plain: lambda *args: plain(*args) + number


@pytest.mark.parametrize(
    ("name", "get", "plain"),
    [("value", lambda box: box.value, 1), ("doubled", lambda box: box.doubled(), 2)],
)
def test_a_method_or_property_is_replaced_in_this_thread_only(name, get, plain) -> None:
    box, stored = Box(), vars(Box)[name]
    with replaced(Box, name, plus(10)):
        assert get(box) == plain + 10
        assert elsewhere(lambda: get(box)) == plain
        with replaced(Box, name, plus(100)):
            assert get(box) == plain + 110, "it stands for the one outside"
        assert get(box) == plain + 10
    assert vars(Box)[name] is stored


def test_each_thread_has_its_own_and_the_last_to_leave_restores() -> None:
    owner, entered, leave = SimpleNamespace(f=lambda: 0), threading.Event(), threading.Event()
    plain, found = owner.f, []

    def other():
        with replaced(owner, "f", plus(2)):
            entered.set()
            leave.wait(10)
            found.append(owner.f())

    thread = threading.Thread(target=other)
    with replaced(owner, "f", plus(1)):
        thread.start()
        entered.wait(10)
        assert owner.f() == 1
        kept = owner.f
    assert owner.f() == 0
    assert owner.f is not plain, "the other thread still needs it"
    leave.set()
    thread.join()
    assert found == [2]
    assert owner.f is plain
    assert kept() == 0, "what was taken hold of meanwhile does what the plain one does"


@pytest.mark.parametrize("where", ["inside", "in the making"])
def test_an_error_restores_the_function(where) -> None:
    owner = SimpleNamespace(f=lambda: 0)
    plain = owner.f

    def make(plain):
        if where == "in the making":
            raise KeyError(where)
        return lambda: 1

    with pytest.raises(KeyError, match=where), replaced(owner, "f", make):
        raise KeyError(where)
    assert owner.f is plain
    with replaced(owner, "f", plus(3)):
        assert owner.f() == 3, "nothing of it is left on the stack either"


def test_a_missing_function_cannot_be_replaced() -> None:
    with pytest.raises(AttributeError, match="f"), replaced(SimpleNamespace(), "f", plus(1)):
        pass


def test_what_is_inherited_is_inherited_again_afterwards() -> None:
    class Base:
        def name(self):
            return "base"

    class Derived(Base):
        pass

    with replaced(Derived, "name", lambda plain: lambda self: plain(self) + "!"):
        assert Derived().name() == "base!"
        assert Base().name() == "base"
    assert "name" not in vars(Derived)
    assert Derived().name() == "base"
