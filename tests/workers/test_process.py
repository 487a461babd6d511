"""A process that answers line by line, whatever becomes of it."""

import os
import signal
import sys
import time

import pytest

from tfprune.workers.process import LineProcess, module_command, module_environment


def run(code: str) -> LineProcess:
    return LineProcess([sys.executable, "-c", code], {})


def test_an_end_is_told_with_its_last_words() -> None:
    code = "import os, sys; print('one\\n two \\n\\n', file=sys.stderr, flush=True); "
    for how, told, number in (
        ("os.abort()", "SIGABRT", -signal.SIGABRT),
        ("os._exit(3)", "exit code 3", 3),
    ):
        process = run(code + how)
        assert process.receive(60) == b""
        assert (process.ending(), process.code()) == (told, number)
        assert process.last_words() == "two"
        process.end()


def test_only_the_end_of_long_words_is_read_and_none_may_have_been_said() -> None:
    process = run("import sys; print('x' * 10**6 + 'é', file=sys.stderr)")
    process.receive(60)
    process.code()
    assert process.last_words().endswith("xé")
    assert len(process.last_words()) < 5000
    process.forget_words()
    assert process.last_words() == ""
    process.end()


def test_silence_has_a_limit_and_the_dead_take_no_lines() -> None:
    process = run("import time; time.sleep(600)")
    with pytest.raises(TimeoutError):
        process.receive(0.2)
    assert process.alive()
    start = time.monotonic()
    process.end()
    assert time.monotonic() - start < 10
    assert not process.alive()
    gone = run("pass")
    gone.code()
    assert not gone.send(b"x" * 10**6)
    gone.end()


def test_a_module_is_this_package_wherever_one_stands(tmp_path, monkeypatch) -> None:
    (tmp_path / "tfprune").mkdir()
    (tmp_path / "tfprune" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    process = LineProcess(module_command("tfprune.cli", "recipes"), module_environment())
    first = process.receive(120)
    assert process.code() == 0, process.last_words()
    assert first
    process.end()
    assert os.getcwd() == str(tmp_path)
