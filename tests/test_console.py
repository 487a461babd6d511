"""What the command shows."""

import io
import sys

import pytest

from tfprune import console


def test_plain_progress_has_a_line_for_start_and_end() -> None:
    stream = io.StringIO()
    with console.PlainProgress(stream).task("1/6 train", 10) as task:
        task.advance(10)
    first, last = stream.getvalue().splitlines()
    assert first == "1/6 train: begins"
    assert last.startswith("1/6 train: done in ")


def test_plain_progress_says_how_much_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    with console.PlainProgress(stream).task("train", 100) as task:
        for _ in range(3):
            now[0] += 6
            task.advance(10)
    lines = stream.getvalue().splitlines()
    # After 12 s a fifth is done, so four times as long is left.
    assert lines == ["train: begins", "train: 20%, about 48.0 s left", "train: done in 18.0 s"]


def test_without_a_terminal_lines_go_to_standard_error(capsys: pytest.CaptureFixture) -> None:
    with console.shown_progress() as progress, progress.task("measure"):
        pass
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("measure: begins\nmeasure: done in ")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    with console.shown_progress() as progress, progress.task("3/6 prune: steps", 4) as task:
        task.advance(2)
        task.advance(2)
    shown = terminal.getvalue()
    assert "3/6 prune: steps" in shown
    assert "100%" in shown


def test_errors_begin_with_the_name_of_the_command(capsys: pytest.CaptureFixture) -> None:
    console.print_error("one\ntwo")
    console.print_result("three")
    shown = capsys.readouterr()
    assert shown.err == "tfprune: one\ntfprune: two\n"
    assert shown.out == "three\n"
