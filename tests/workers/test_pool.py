"""Jobs in a child process: answers, exceptions, crashes, hangs."""

import math
import os
import sys
import time

import pytest

from tfprune.workers import pool


def test_a_job_runs_in_another_process_that_is_kept_for_the_next() -> None:
    first = pool.run_job(os.getpid, limit_s=60)
    assert first != os.getpid()
    assert pool.run_job(os.getpid, limit_s=60) == first
    pool.close_children()
    assert pool.run_job(os.getpid, limit_s=60) != first


def test_the_error_of_a_job_has_its_type_and_text() -> None:
    with pytest.raises(pool.JobError, match=r"FileNotFoundError: .*no/such/folder"):
        pool.run_job(os.listdir, "/no/such/folder", limit_s=60)


def test_a_crash_names_the_signal_and_the_next_job_gets_a_new_child() -> None:
    with pytest.raises(pool.CrashError, match="SIGABRT"):
        pool.run_job(os.abort, limit_s=60)
    assert pool.run_job(math.sqrt, 9, limit_s=60) == 3.0


def test_a_job_past_its_limit_is_ended() -> None:
    pool.run_job(os.getpid, limit_s=60)
    with pytest.raises(pool.LimitError, match=r"limit of 0\.2 s"):
        pool.run_job(time.sleep, 60, limit_s=0.2)
    assert pool.run_job(math.sqrt, 9, limit_s=60) == 3.0


def test_a_child_that_ended_is_replaced_once() -> None:
    with pytest.raises(pool.CrashError, match="exit code 3"):
        pool.run_job(os._exit, 3, limit_s=60)
    pool.run_job(os.getpid, limit_s=60)
    with pytest.raises(pool.CrashError, match="exit code 0"):
        pool.run_job(os._exit, 0, limit_s=60)


def test_the_output_of_a_job_does_not_mix_with_the_answers() -> None:
    assert pool.run_job(print, '{"result": 1}', limit_s=60) is None
    assert pool.run_job(math.sqrt, 4, limit_s=60) == 2.0


def test_a_child_of_the_runtime_cannot_take_all_memory() -> None:
    with pytest.raises(pool.JobError, match="MemoryError"):
        pool.run_job(bytearray, 1 << 40, limit_s=60)


def test_a_generator_answers_step_by_step_in_its_own_process(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    kept = pool.run_job(os.getpid, limit_s=60)
    assert list(pool.stream_job(os.walk, str(tmp_path), limit_s=60)) == [
        [str(tmp_path), ["a"], []],
        [str(tmp_path / "a"), [], []],
    ]
    assert pool.run_job(os.getpid, limit_s=60) == kept


def test_a_generator_may_raise_and_may_be_slow() -> None:
    with pytest.raises(pool.JobError, match=r"FileNotFoundError: .*no/such/folder") as caught:
        list(pool.stream_job(os.fwalk, "/no/such/folder", limit_s=60))
    assert caught.value.kind == "FileNotFoundError"
    slow = pool.stream_job(time.sleep, 60, limit_s=2)
    with pytest.raises(pool.LimitError, match=r"limit of 2 s"):
        list(slow)


# A wrapper as ssh is: what it starts holds its output, and ends when its own input does.
WRAPPER = """
import subprocess, sys
subprocess.run([sys.executable, "-P", "-m", "tfprune.workers.main", "runtime"])
"""


def test_closing_the_generator_ends_the_started_process() -> None:
    command = [sys.executable, "-c", WRAPPER]
    answers = pool.stream_job(os.walk, "/", limit_s=60, command=command)
    next(answers)
    start = time.monotonic()
    answers.close()
    assert time.monotonic() - start < 10
