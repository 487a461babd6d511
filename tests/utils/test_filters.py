import pytest

from tfprune.errors import FilterError, OptionError
from tfprune.utils.filters import as_filters, check_used, choose, matches

PATHS = ["stem/kernel", "block1/conv/kernel", "head/kernel"]


def names(path: str) -> list[str]:
    return [path, path.split("/")[0]]


@pytest.mark.parametrize(
    ("only", "skip", "expected"),
    [
        ((), (), [True, True, True]),
        (("block1",), (), [False, True, False]),
        (("stem", "head"), (), [True, False, True]),
        ((), (r"conv/kernel$",), [True, False, True]),
        ((lambda path: len(path) > 11,), (), [False, True, False]),
        (("kernel",), ("head",), [True, True, False]),
    ],
)
def test_choose(only, skip, expected: list[bool]) -> None:
    assert choose(PATHS, names, only, skip) == expected


def test_one_filter_or_several() -> None:
    assert as_filters("only", "a") == ("a",)
    assert as_filters("only", ["a", "b"]) == ("a", "b")
    assert as_filters("only", str.isupper) == (str.isupper,)
    with pytest.raises(OptionError, match=r"only='a\(' is not a regular expression"):
        as_filters("only", "a(")
    with pytest.raises(OptionError, match="expected names, regular expressions or predicates"):
        as_filters("skip", [3])


def test_a_filter_that_matches_nothing_names_the_nearest() -> None:
    with pytest.raises(
        FilterError, match=r"skip: 'heat/kernel' matches nothing.*Did you mean head/"
    ):
        check_used(PATHS, names, (), ("heat/kernel",))
    with pytest.raises(FilterError, match="only: the predicate matches nothing"):
        check_used(PATHS, names, (lambda path: False,))
    check_used(PATHS, names, ("stem",), ("head",))


def test_a_whole_name_matches_even_if_it_is_no_usual_regex() -> None:
    assert matches("a+b", None, ["a+b"])
