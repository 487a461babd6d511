from tfprune.utils.progress import SILENT


def test_the_default_can_be_advanced_and_nested_without_effect(capsys) -> None:
    with SILENT.task("outer", total=2) as outer, SILENT.task("inner") as inner:
        outer.advance()
        inner.advance(0.5)
    assert capsys.readouterr() == ("", "")
