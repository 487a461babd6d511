"""The child process: JSON lines in and out, and it leaves when its parent does."""

import json
import subprocess

from tfprune.workers.process import LineProcess, module_command, module_environment


def ask(*lines: str) -> list[dict]:
    """Start a child, give it lines, and return its answers."""
    done = subprocess.run(
        module_command("tfprune.workers.main", "converter"),
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=60,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_worker_ends_when_its_input_ends() -> None:
    assert ask() == []


def test_each_job_answers_in_lines_and_the_last_says_how_it_ended(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    child = LineProcess(module_command("tfprune.workers.main", "runtime"), module_environment())
    for job, arguments, told in (
        ("math:sqrt", [9], [{"answer": 3.0}, {"done": True}]),
        ("math:sqrt", [-1], [{"error": "ValueError", "text": "math domain error"}]),
        (
            "os:walk",
            [str(tmp_path)],
            [
                {"answer": [str(tmp_path), ["a"], []]},
                {"answer": [str(tmp_path / "a"), [], []]},
                {"done": True},
            ],
        ),
        ("builtins:object", [], [{"error": "TypeError"}]),
        ("os:none", [], [{"error": "AttributeError"}]),
    ):
        child.send(json.dumps({"job": job, "arguments": arguments}).encode())
        for line in told:
            said = json.loads(child.receive(60))
            assert {**said, **line} == said
    child.end()
