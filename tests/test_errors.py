import pytest

from tfprune import errors


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ModelError, ValueError),
        (errors.DataError, ValueError),
        (errors.OptionError, ValueError),
        (errors.RecipeError, ValueError),
        (errors.ArtifactError, ValueError),
        (errors.ConversionError, RuntimeError),
        (errors.GateError, RuntimeError),
    ],
)
def test_errors_are_also_the_builtin_a_caller_expects(error, builtin) -> None:
    assert issubclass(error, errors.TfpruneError)
    assert issubclass(error, builtin)


def test_nearest_lists_the_known_names_and_hints_only_at_a_close_one() -> None:
    assert errors.nearest("int9", ["int8", "float16"]) == "Known: float16, int8. Did you mean int8?"
    assert errors.nearest("zzz", ["int8", "float16"]) == "Known: float16, int8."
