"""Values are equal after writing and reading TOML."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfprune.errors import OptionError
from tfprune.recipe.toml import to_toml

# A surrogate alone is no character, and TOML files are UTF-8.
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
SCALARS = (
    TEXTS
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
TABLES = st.dictionaries(TEXTS, st.dictionaries(TEXTS, VALUES, max_size=3), max_size=3)


@given(TABLES)
def test_tables_are_equal_after_writing_and_reading(tables: dict) -> None:
    assert tomllib.loads(to_toml(tables)) == tables


def test_what_toml_cannot_hold_is_refused() -> None:
    with pytest.raises(OptionError, match="NoneType"):
        to_toml({"prune": {"sparsity": None}})
