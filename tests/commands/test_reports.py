"""`tfprune compare` and `report`."""

from pathlib import Path

import pytest

import tfprune
from tests.commands.calls import tfprune_command

CODE = """
import numpy as np

def minus_error(labels, outputs):
    return -float(np.abs(labels - outputs.argmax(-1)).mean())
"""


@pytest.fixture(autouse=True)
def folder(compared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of two files and samples, as the current one, with a metric of the user's."""
    (compared_folder / "metric_of_theirs.py").write_text(CODE)
    monkeypatch.chdir(compared_folder)
    return compared_folder


COMPARE = "compare float32.tflite int8.tflite --runs 2"


def test_files_are_compared_with_the_first(folder: Path, capsys: pytest.CaptureFixture) -> None:
    assert tfprune_command(f"{COMPARE} --data test.npz -o page.html") == 0
    shown = capsys.readouterr().out
    assert "accuracy" in shown
    assert "latency ratio" in shown
    assert "int8.tflite" in (folder / "page.html").read_text()


def test_without_data_files_are_not_scored(capsys: pytest.CaptureFixture) -> None:
    assert tfprune_command(COMPARE) == 0
    assert "accuracy" not in capsys.readouterr().out


def test_a_metric_of_the_users(folder: Path, capsys: pytest.CaptureFixture) -> None:
    words = f"{COMPARE} --data test.npz --metric metric_of_theirs:minus_error -o r.json"
    assert tfprune_command(words) == 0
    assert "minus_error" in capsys.readouterr().out
    assert tfprune.Report.load(folder / "r.json").rows[0].score == 0.0


def test_a_missed_gate_ends_with_code_1(capsys: pytest.CaptureFixture) -> None:
    assert tfprune_command(f"{COMPARE} --max-bytes 10") == 1
    shown = capsys.readouterr()
    assert "latency" in shown.out
    assert "max_bytes" in shown.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("compare gone.tflite int8.tflite", "gone.tflite: no such file"),
        (f"{COMPARE} --data test.csv", "--data test.csv: expected .npz"),
        (f"{COMPARE} --data test.npz --metric accurasy", "accurasy"),
        (f"{COMPARE} --metric accuracy", "--metric: nothing is scored without labels; give --data"),
        (f"{COMPARE} --max-drop 0.1", "--max-drop: nothing is scored without labels"),
        (f"{COMPARE} -o page.pdf", "expected a name ending in .html"),
        (f"{COMPARE} --device hosst", "host"),
        ("report gone", "gone: no report.json in it"),
        ("report gone -o runs.json", "expected a name ending in .html, .md, .txt"),
    ],
)
def test_a_wrong_call_is_one_line_with_code_2(
    words: str, said: str, capsys: pytest.CaptureFixture
) -> None:
    assert tfprune_command(words) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line[:8] == "tfprune:"]
    assert len(errors) == 1
    assert said in errors[0]


def test_runs_are_shown_on_one_page(folder: Path, capsys: pytest.CaptureFixture) -> None:
    report = tfprune.compare(
        str(folder / "float32.tflite"), {"model": str(folder / "int8.tflite")}, runs=2
    )
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "report.json").write_text(report.to_json())
        (folder / name / "report.html").write_text(report.to_html())
    assert tfprune_command("report a b -o pages/runs.html") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["a", "b"]
    page = (folder / "pages" / "runs.html").read_text()
    assert '<a href="../a/report.html">a</a>' in page
    assert tfprune_command("report a b -o runs.md") == 0
    assert (folder / "runs.md").read_text().count("| a |") == 1
