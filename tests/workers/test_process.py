"""A process that answers line by line, also when it crashes or hangs."""

import os
import resource
import signal
import subprocess
import sys
import time

import pytest

from tfprune.workers.process import LineProcess, module_command, module_environment


def run(code: str) -> LineProcess:
    return LineProcess([sys.executable, "-c", code], {})


def test_the_end_of_a_process_is_reported_with_its_last_line() -> None:
    code = "import os, sys; print('one\\n two \\n\\nINFO: x', file=sys.stderr, flush=True); "
    for how, told, number in (
        ("os.abort()", "SIGABRT", -signal.SIGABRT),
        ("os._exit(3)", "exit code 3", 3),
    ):
        process = run(code + how)
        assert process.receive(60) == b""
        assert (process.ending(), process.code()) == (told, number)
        assert process.last_stderr_line() == "two"
        process.end()


def test_only_the_end_of_a_long_line_is_read_and_there_may_be_none() -> None:
    process = run("import sys; print('x' * 10**6 + 'é', file=sys.stderr)")
    process.receive(60)
    process.code()
    assert process.last_stderr_line().endswith("xé")
    assert len(process.last_stderr_line()) < 5000
    process.clear_stderr()
    assert process.last_stderr_line() == ""
    process.end()


def test_waiting_has_a_limit_and_ended_processes_take_no_lines() -> None:
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


LIMITED = """
import resource
import os
from pathlib import Path
import tfprune
from tfprune.workers import pool
from tfprune.workers.process import memory_limit
assert memory_limit() is None
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
assert memory_limit() == 6 << 30
print(pool.run_job(memory_limit, limit_s=60) >> 30)
print(pool.run_job(memory_limit, limit_s=60, kind="converter") >> 30)
try:
    pool.run_job(os.abort, limit_s=60, kind="converter")
except pool.CrashError as error:
    print(error)
print(tfprune.benchmark(Path("tflite_models/quickstart.tflite"), runs=1).median_ms > 0)
"""


def test_children_work_under_a_hard_limit_of_memory_and_report_it() -> None:
    """`ulimit -v` is hard: a child cannot raise it to what it would allow itself."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "6",
        "6",
        "the process died (SIGABRT, with 6.0 GiB of memory allowed)",
        "True",
    ]


def test_a_lower_limit_stays() -> None:
    code = (
        "import resource; from tfprune.workers.process import limit_memory, memory_limit\n"
        "limit_memory(8 << 30); limit_memory(9 << 30); limit_memory(7 << 30)\n"
        "print(memory_limit() >> 30, resource.getrlimit(resource.RLIMIT_AS)[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", str(resource.RLIM_INFINITY)]


def test_a_worker_imports_this_package_from_any_folder(tmp_path, monkeypatch) -> None:
    (tmp_path / "tfprune").mkdir()
    (tmp_path / "tfprune" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    process = LineProcess(module_command("tfprune.cli", "recipes"), module_environment())
    first = process.receive(120)
    assert process.code() == 0, process.last_stderr_line()
    assert first
    process.end()
    assert os.getcwd() == str(tmp_path)
